-- The sale lines of GloboJava's export. Copy this file to sql/<your source>.sql and begin from it.
--
-- What you may select from: the tables that `files` names in env.<source>.yaml, here `till`. Ingest has read them
-- by their header names and turned each column into the type declared there: a date is a DATE, `decimal` an exact
-- DECIMAL, `yes_no` and `boolean` are BOOLEAN. Rows that do not fit their types never get here: they are in quarantine.
--
-- What you must yield: one row a sale line, with the eleven columns below under exactly these names. A column that
-- your data lacks is listed under `lacks` in the YAML and selected as NULL; invent nothing for it.
-- Joins, filters and CASE are welcome. The dialect is DuckDB's.

SELECT
    STOREID         AS store_id,       -- text, even where it looks like a number
    DATE            AS date,           -- the day of the sale; where the tills report weeks, the week's date
    COUNTRY         AS country,
    CITY            AS city,
    PRODUCTCATEGORY AS category,       -- one of `categories` in the YAML, where it lists any
    PRODUCT         AS product,
    PRICE           AS price,          -- of one unit, above 0
    QUANTITYSOLD    AS quantity_sold,  -- units, in whatever unit the source counts
    WEATHER         AS weather,        -- Hot, Cold or Rainy; may be empty
    PROMOTION       AS promotion,      -- true, false; may be empty
    HOLIDAY         AS holiday,        -- true, false

    -- Optional. With a total, ingest checks that it is price x quantity_sold; it is not kept.
    TOTALSALE       AS total_sale,

    -- Optional. Where a row came from: ingest gives every table these two columns. Hand them on, and what the contract
    -- sets aside is reported with its file and line. In a join, take those of the table that holds the sale lines.
    _file,
    _line
FROM till
-- No ORDER BY: ingest sorts what it writes.
