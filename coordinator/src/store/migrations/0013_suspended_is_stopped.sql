-- A deployment whose account is suspended is stopped, by the platform.
UPDATE deployments SET status = 'stopped', health = NULL, stopped_at = coalesce(stopped_at,
    (SELECT suspended_at FROM accounts WHERE id = deployments.account_id))
WHERE run = 'suspended' AND status <> 'destroyed';
