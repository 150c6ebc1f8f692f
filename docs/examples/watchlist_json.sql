SELECT json_build_object('factors', json_agg(entry))
  FROM (SELECT name, :'service_sid' AS service_sid, identity, factor_sid, labels
          FROM verify_watchlist
         WHERE identity IS NOT NULL AND factor_sid IS NOT NULL
         ORDER BY factor_sid) AS entry;
