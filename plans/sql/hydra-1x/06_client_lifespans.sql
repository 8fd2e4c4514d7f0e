-- Clients may have token lifetimes of their own, in nanoseconds.
alter table public.hydra_client add column authorization_code_grant_id_token_lifespan bigint;
alter table public.hydra_client add column authorization_code_grant_access_token_lifespan bigint;
alter table public.hydra_client add column authorization_code_grant_refresh_token_lifespan bigint;
alter table public.hydra_client add column client_credentials_grant_access_token_lifespan bigint;
alter table public.hydra_client add column implicit_grant_id_token_lifespan bigint;
alter table public.hydra_client add column implicit_grant_access_token_lifespan bigint;
alter table public.hydra_client add column jwt_bearer_grant_access_token_lifespan bigint;
alter table public.hydra_client add column refresh_token_grant_id_token_lifespan bigint;
alter table public.hydra_client add column refresh_token_grant_access_token_lifespan bigint;
alter table public.hydra_client add column refresh_token_grant_refresh_token_lifespan bigint;
