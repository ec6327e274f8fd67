-- Joins Maven Market's star schema into sale lines. Returns are lines with a negative quantity, on the day of the return.
-- The prices are today's retail prices: the data has no others.
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
    product_brand         AS category,       -- the data groups products only by brand
    product_name          AS product,
    product_retail_price  AS price,
    quantity              AS quantity_sold,
    moves._file,                             -- the position of the line, not of the joined tables
    moves._line
FROM moves
JOIN products USING (product_id)
JOIN stores USING (store_id)
