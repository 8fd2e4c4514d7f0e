-- oauth/rows: the same rows every time, for the same number; made from hashes of their number, so no random().
-- params: @clients@, @tokens@ (replaced by whole numbers: generate_series in several statements takes no parameters)
-- returns: nothing
-- majors: 15 to 18

insert into oauth_client (client_id, name, redirect_uris, metadata, logo, created_at)
select 'client-' || n,
       'Client ' || n,
       jsonb_build_array('https://app' || n || '.example/callback', 'https://app' || n || '.example/silent'),
       jsonb_build_object('tier', n % 3, 'note', 'naïve ☃ "quoted" \ back', 'contacts', jsonb_build_array(n)),
       (select string_agg(md5(n || '/' || part), '') from generate_series(1, 120) as part),
       timestamptz '2025-01-01 00:00:00+00' + n * interval '1 minute'
from generate_series(1, @clients@) as n;

insert into oauth_refresh (signature, request_id, client, subject, session, active, issued_at)
select 'seed-r-' || n,
       md5('request ' || n)::uuid,
       1 + n % @clients@,
       'subject-' || n % (1 + @tokens@ / 5),
       jsonb_build_object('amr', jsonb_build_array('pwd'), 'nonce', md5('nonce ' || n)),
       n % 10 <> 0,
       timestamptz '2025-06-01 00:00:00+00' + n * interval '1 second'
from generate_series(1, @tokens@) as n;

insert into oauth_access (signature, request_id, client, subject, session, expires_at)
select 'seed-a-' || n,
       md5('request ' || n)::uuid,
       1 + n % @clients@,
       'subject-' || n % (1 + @tokens@ / 5),
       jsonb_build_object('scope', 'openid offline', 'nonce', md5('access ' || n)),
       timestamptz '2027-06-01 00:00:00+00' + n * interval '1 second'
from generate_series(1, @tokens@) as n
where n % 10 <> 0;

insert into oauth_consent (id, subject, client, scopes, session, granted_at)
select md5('consent ' || n)::uuid,
       'subject-' || n % (1 + @tokens@ / 5),
       1 + n % @clients@,
       case n % 3 when 0 then '{}' when 1 then array['openid', 'a "quoted", one'] else array['openid', null] end,
       jsonb_build_object('remembered', n % 2 = 0),
       timestamptz '2025-03-01 00:00:00+00' + n * interval '1 minute'
from generate_series(1, @tokens@ / 2) as n;

insert into oauth_session (subject, remember, last_seen)
select 'subject-' || n % (1 + @tokens@ / 5), n % 2 = 0, timestamptz '2025-09-01 00:00:00+00' + n * interval '1 second'
from generate_series(1, @tokens@ / 2) as n;

insert into oauth_event (kind, signature, at)
select (enum_range(null::token_event))[1 + n % 3], 'seed-r-' || n, timestamptz '2025-12-31 00:00:00+00' + n * interval '1 minute'
from generate_series(1, @tokens@ / 2) as n;

analyze;
