-- Tokens are listed by client and subject. These are the two biggest tables.
create index hydra_oauth2_access_client_id_subject_idx
    on public.hydra_oauth2_access (client_id, subject);
create index hydra_oauth2_refresh_client_id_subject_idx
    on public.hydra_oauth2_refresh (client_id, subject);
