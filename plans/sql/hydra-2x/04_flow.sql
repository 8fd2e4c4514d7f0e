-- One flow takes the place of the four login and consent tables.
create table public.hydra_oauth2_flow (
    login_challenge        varchar(40) not null,
    nid                    uuid not null references public.networks (id) on update restrict on delete cascade,
    client_id              varchar(255) not null references public.hydra_client (id) on delete cascade,
    subject                varchar(255) not null,
    state                  integer not null check (state in (1, 2, 3, 4, 5, 6, 128, 129)),
    request_url            text not null,
    requested_scope        jsonb not null default '[]',
    login_verifier         varchar(40),
    login_csrf             varchar(40),
    login_session_id       varchar(40) references public.hydra_oauth2_authentication_session (id) on delete set null,
    login_was_used         boolean not null default false,
    requested_at           timestamp not null default now(),
    consent_challenge_id   varchar(40),
    consent_verifier       varchar(40),
    consent_was_used       boolean not null default false,
    granted_scope          jsonb not null default '[]',
    session_access_token   jsonb not null default '{}',
    session_id_token       jsonb not null default '{}',
    primary key (login_challenge)
);
create unique index hydra_oauth2_flow_consent_challenge_id_idx on public.hydra_oauth2_flow (consent_challenge_id);
create index hydra_oauth2_flow_client_id_subject_idx on public.hydra_oauth2_flow (client_id, subject);
create index hydra_oauth2_flow_sub_idx on public.hydra_oauth2_flow (subject, nid);
