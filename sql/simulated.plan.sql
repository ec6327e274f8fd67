-- What GloboJava's planners decide beforehand, one row a store and month: sql/<your source>.plan.sql, where there is
-- a plan. Without one, set `plan_sql: null` in the YAML and leave this file out.
--
-- A forecast uses a row only if it was published by the cutoff, the last day of the month before. If a plan is revised,
-- yield every version with its own date: the newest that was known at each cutoff counts. Never date a plan back, and
-- never fill it with what happened: a forecast that knows the outcome looks good until the day it is needed.

SELECT
    STOREID        AS store_id,         -- as in the sale lines
    MONTH          AS month,            -- first day of the month that is planned
    PUBLISHED      AS published,        -- the day on which the plan was out
    PRICE          AS price,            -- planned mean list price; NULL where it is not planned
    PROMOTIONSHARE AS promotion_share,  -- share of the trading days on promotion, 0 to 1; NULL where it is not planned
    TRADINGDAYS    AS trading_days,     -- days the store will be open; 0 announces a closing; NULL: the calendar's
    _file,
    _line
FROM plan
