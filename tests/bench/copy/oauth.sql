-- copy/oauth: an OAuth provider's tokens, 0.4 to 0.8 KB a row, with the indexes and foreign keys that providers have.
-- params:  @part@ (replaced by a whole number): consents; twice as many refresh and three times as many access tokens
-- returns: nothing
-- majors:  15-18
create table public.oauth_client (
    id            text primary key,
    name          text not null,
    redirect_uris text not null,
    metadata      jsonb not null,
    created_at    timestamptz not null
);
create table public.oauth_consent (
    id           bigserial primary key,
    request_id   text not null,
    client_id    text not null,
    subject      text not null,
    session_data text not null,
    granted_at   timestamptz not null
);
create table public.oauth_access (
    signature    text primary key,
    request_id   text not null,
    client_id    text not null,
    consent_id   bigint not null,
    scope        text not null,
    form_data    text not null,
    session_data text not null,
    subject      text not null,
    active       boolean not null,
    requested_at timestamptz not null,
    expires_at   timestamptz not null
);
create table public.oauth_refresh (like public.oauth_access including all);

insert into public.oauth_client
select 'client-' || lpad(n::text, 6, '0'), 'Client ' || n, 'https://app' || n || '.example.com/callback',
       jsonb_build_object('n', n), timestamptz '2026-01-01' + n * interval '1 minute'
  from generate_series(1, 10000) as n;
insert into public.oauth_consent (request_id, client_id, subject, session_data, granted_at)
select md5('r' || n), 'client-' || lpad((1 + n::bigint * 7919 % 10000)::text, 6, '0'), 'user-' || n % 500000,
       (select string_agg(md5(n || ':' || part), '') from generate_series(1, 6 + n % 6) as part),
       timestamptz '2026-06-01' + n * interval '1 second'
  from generate_series(1, @part@) as n;
-- A token is spread over the whole of its index, as signatures are.
insert into public.oauth_access
select encode(sha256(('a' || n)::bytea), 'base64'), md5('r' || n % @part@),
       'client-' || lpad((1 + n::bigint * 7919 % 10000)::text, 6, '0'), 1 + n % @part@, 'openid offline profile email',
       'grant_type=authorization_code&code=' || md5('f' || n) || '&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback',
       (select string_agg(md5(n || ':' || part), '') from generate_series(1, 10 + n % 10) as part),
       'user-' || n % 500000, n % 20 <> 0, timestamptz '2026-06-01' + n * interval '1 second',
       timestamptz '2026-06-01 01:00' + n * interval '1 second'
  from generate_series(1, 3 * @part@) as n;
insert into public.oauth_refresh
select encode(sha256(('b' || n)::bytea), 'base64'), md5('r' || n % @part@),
       'client-' || lpad((1 + n::bigint * 7919 % 10000)::text, 6, '0'), 1 + n % @part@, 'openid offline profile email',
       'grant_type=refresh_token&code=' || md5('f' || n),
       (select string_agg(md5(n || ':' || part), '') from generate_series(1, 10 + n % 10) as part),
       'user-' || n % 500000, n % 20 <> 0, timestamptz '2026-06-01' + n * interval '1 second',
       timestamptz '2026-07-01' + n * interval '1 second'
  from generate_series(1, 2 * @part@) as n;

create unique index consent_request on public.oauth_consent (request_id);
create index consent_client on public.oauth_consent (client_id, subject);
create index consent_granted on public.oauth_consent (granted_at);
create index access_request on public.oauth_access (request_id);
create index access_client on public.oauth_access (client_id, subject);
create index access_requested on public.oauth_access (requested_at);
create index access_expires on public.oauth_access (expires_at) where active;
create index access_consent on public.oauth_access (consent_id);
create index refresh_request on public.oauth_refresh (request_id);
create index refresh_client on public.oauth_refresh (client_id, subject);
create index refresh_requested on public.oauth_refresh (requested_at);
create index refresh_expires on public.oauth_refresh (expires_at) where active;
create index refresh_consent on public.oauth_refresh (consent_id);
alter table public.oauth_consent add foreign key (client_id) references public.oauth_client (id);
alter table public.oauth_access
    add foreign key (client_id) references public.oauth_client (id),
    add foreign key (consent_id) references public.oauth_consent (id);
alter table public.oauth_refresh
    add foreign key (client_id) references public.oauth_client (id),
    add foreign key (consent_id) references public.oauth_consent (id);
