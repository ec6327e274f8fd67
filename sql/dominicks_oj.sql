-- Dominick's: each row is one brand in one store in one week.
SELECT
    store                                  AS store_id,
    DATE '1989-09-14' + (7 * week - 1)::INTEGER  AS date,  -- the week's last day; week 1 begins on 1989-09-14
    'Orange juice'                         AS category,
    brand                                  AS product,
    [price1, price2, price3, price4, price5, price6, price7, price8, price9, price10, price11][brand] AS price,
    round(exp(logmove))::DECIMAL(18, 6)    AS quantity_sold,  -- whole ounces; the file has their logarithm with ten digits
    deal OR feat > 0                       AS promotion,      -- an in-store deal, or some of the brand's packs in the leaflet
    _file,
    _line
FROM weeks
