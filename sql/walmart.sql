-- Walmart's weeks: a line is one department of one store in one week, its quantity the week's sales in dollars.
-- A store that stores.csv does not list is a wrong number in the data: the join leaves it out, and ingest reports it.
SELECT
    Store         AS store_id,
    Date          AS date,           -- the week's last day, a Friday
    Dept          AS category,
    Weekly_Sales  AS quantity_sold,  -- dollars
    IsHoliday     AS holiday,        -- of the week
    train._file,
    train._line
FROM train
JOIN stores USING (Store)
