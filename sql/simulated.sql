-- The sale lines of GloboJava's export. For your own source, copy this file to sql/<your source>.sql and change it.
--
-- You may select from the tables that `files` declares in env.<source>.yaml, here `till`. Ingest has read their columns
-- by header name and converted them to the declared types: a date is a DATE, `decimal` is an exact DECIMAL, `yes_no` and
-- `boolean` are BOOLEAN. Rows that do not fit their types are not here: they are in quarantine.
--
-- You must yield one row per sale line, with the eleven columns below under exactly these names. If your data does not
-- have a column, list it under `lacks` in the YAML, and leave it out or select NULL; do not invent values.
-- You may use joins, filters and CASE. The dialect is DuckDB's.

SELECT
    STOREID         AS store_id,       -- text, even if it looks like a number
    DATE            AS date,           -- the day of the sale; if the tills report weeks, the week's date
    COUNTRY         AS country,
    CITY            AS city,
    PRODUCTCATEGORY AS category,       -- one of `categories` in the YAML, if it lists any
    PRODUCT         AS product,
    PRICE           AS price,          -- price of one unit, above 0
    QUANTITYSOLD    AS quantity_sold,  -- in the unit that the source counts in
    WEATHER         AS weather,        -- Hot, Cold or Rainy; may be empty
    PROMOTION       AS promotion,      -- true, false; may be empty
    HOLIDAY         AS holiday,        -- true, false

    -- Optional. If there is a total, ingest checks that it is price x quantity_sold, and does not store it.
    TOTALSALE       AS total_sale,

    -- Optional. The file and line of a row: ingest adds these two columns to every table. Pass them on, and bad rows are
    -- reported with their file and line. In a join, use those of the table with the sale lines.
    _file,
    _line
FROM till
-- No ORDER BY: ingest sorts what it writes.
