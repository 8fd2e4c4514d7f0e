create table public.token (
    signature text primary key,
    request_id text not null,
    client_id text not null,
    consent_id bigint,
    scope text not null,
    form_data text not null,
    session_data text not null,
    subject text not null,
    active boolean not null default true,
    requested_at timestamptz not null,
    expires_at timestamptz not null
);
insert into public.token
select 'a' || n, md5('r' || n), 'client-' || n % 10000, n, 'openid offline profile email',
    'grant_type=authorization_code&code=' || md5('f' || n) || '&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback',
    (select string_agg(md5(n || ':' || part), '') from generate_series(1, 14) part),
    'user-' || n % 500000, true, timestamptz '2026-06-01' + n * interval '1 second', timestamptz '2026-06-02' + n * interval '1 second'
from generate_series(1, 300000) n;
create index token_request on public.token (request_id);
create index token_client on public.token (client_id, subject);
create index token_requested on public.token (requested_at);
create index token_expires on public.token (expires_at) where active;
create index token_consent on public.token (consent_id);
