-- Run it as the owner of the table. The role reads this view, and nothing else of the table.
CREATE VIEW verify_watchlist AS
  SELECT 'user-' || id AS name,  -- metrics and pages show it: no person's name
         verify_identity AS identity,
         verify_factor_sid AS factor_sid,
         json_build_object('team', coalesce(team, '')) AS labels  -- an empty label is no label
    FROM users
   WHERE NOT disabled;

CREATE ROLE verify_watchlist LOGIN CONNECTION LIMIT 4;  -- set its password with: \password verify_watchlist
ALTER ROLE verify_watchlist SET default_transaction_read_only = on;
ALTER ROLE verify_watchlist SET statement_timeout = '5s';
GRANT SELECT ON verify_watchlist TO verify_watchlist;
