-- Tokens hang on their flow, and carry when they end.
alter table public.hydra_oauth2_access drop constraint hydra_oauth2_access_challenge_id_fkey;
alter table public.hydra_oauth2_access add constraint hydra_oauth2_access_challenge_id_fk
    foreign key (challenge_id) references public.hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table public.hydra_oauth2_access add column expires_at timestamp;
alter table public.hydra_oauth2_refresh drop constraint hydra_oauth2_refresh_challenge_id_fkey;
alter table public.hydra_oauth2_refresh add constraint hydra_oauth2_refresh_challenge_id_fk
    foreign key (challenge_id) references public.hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table public.hydra_oauth2_refresh add column expires_at timestamp;
alter table public.hydra_oauth2_code drop constraint hydra_oauth2_code_challenge_id_fkey;
alter table public.hydra_oauth2_code add constraint hydra_oauth2_code_challenge_id_fk
    foreign key (challenge_id) references public.hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table public.hydra_oauth2_code add column expires_at timestamp;
alter table public.hydra_oauth2_oidc drop constraint hydra_oauth2_oidc_challenge_id_fkey;
alter table public.hydra_oauth2_oidc add constraint hydra_oauth2_oidc_challenge_id_fk
    foreign key (challenge_id) references public.hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table public.hydra_oauth2_oidc add column expires_at timestamp;
alter table public.hydra_oauth2_pkce drop constraint hydra_oauth2_pkce_challenge_id_fkey;
alter table public.hydra_oauth2_pkce add constraint hydra_oauth2_pkce_challenge_id_fk
    foreign key (challenge_id) references public.hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table public.hydra_oauth2_pkce add column expires_at timestamp;
alter table public.hydra_oauth2_refresh add column first_used_at timestamp;
alter table public.hydra_oauth2_refresh add column used_times integer;
alter table public.hydra_oauth2_refresh add column access_token_signature varchar(255);
