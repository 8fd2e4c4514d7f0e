-- One request may have several tokens from now on, so the unique indexes make room for plain ones of the same name.
-- Between the drop and the create no revocation would find its rows by index: the pair must become a swap.
drop index public.hydra_oauth2_access_request_id_idx;
create index hydra_oauth2_access_request_id_idx on public.hydra_oauth2_access (request_id);
drop index public.hydra_oauth2_refresh_request_id_idx;
create index hydra_oauth2_refresh_request_id_idx on public.hydra_oauth2_refresh (request_id);
create index hydra_oauth2_code_request_id_idx on public.hydra_oauth2_code (request_id);
create index hydra_oauth2_oidc_request_id_idx on public.hydra_oauth2_oidc (request_id);
create index hydra_oauth2_pkce_request_id_idx on public.hydra_oauth2_pkce (request_id);
