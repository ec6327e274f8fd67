-- Walmart: each row is one department of one store in one week. Its quantity is the week's sales in dollars.
-- A store that is not in stores.csv is an error in the data: the join loses its rows, and ingest quarantines them.
SELECT
    Store         AS store_id,
    Date          AS date,           -- the week's last day, a Friday
    Dept          AS category,
    Weekly_Sales  AS quantity_sold,  -- dollars
    IsHoliday     AS holiday,        -- true for a holiday week
    train._file,
    train._line
FROM train
JOIN stores USING (Store)
