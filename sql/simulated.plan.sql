-- GloboJava's plan, one row per store and month. For your own source, write sql/<your source>.plan.sql if there is a
-- plan. If there is none, set `plan_sql: null` in the YAML, without such a file.
--
-- A forecast uses a row only if it was published by the cutoff, the last day of the month before. If a plan is revised,
-- yield every version with its own publication date: each cutoff uses the newest version published until then. Never
-- backdate a plan, and never fill it with what happened: that is leakage, and makes a forecast look better than it is.

SELECT
    STOREID        AS store_id,         -- as in the sale lines
    MONTH          AS month,            -- first day of the planned month
    PUBLISHED      AS published,        -- the day on which the plan was published
    PRICE          AS price,            -- planned mean list price; NULL: not planned
    PROMOTIONSHARE AS promotion_share,  -- share of the trading days with a promotion, 0 to 1; NULL: not planned
    TRADINGDAYS    AS trading_days,     -- days on which the store will be open; 0: the store closes; NULL: as in the calendar
    _file,
    _line
FROM plan
