-- Maven Market's star joined into sale lines: what was sold, and what came back as lines of negative quantity on the
-- day it came back. Prices are today's retail prices, the only ones there are.
WITH moves AS (
    SELECT transaction_date AS date, product_id, store_id, quantity, _file, _line FROM transactions
    UNION ALL
    SELECT return_date, product_id, store_id, -quantity, _file, _line FROM returns
)
SELECT
    store_id,
    date,
    store_country         AS country,
    store_city            AS city,
    product_brand         AS category,       -- a product has a brand and no other group
    product_name          AS product,
    product_retail_price  AS price,
    quantity              AS quantity_sold,
    moves._file,                             -- of the line, not of the tables that it is joined to
    moves._line
FROM moves
JOIN products USING (product_id)
JOIN stores USING (store_id)
