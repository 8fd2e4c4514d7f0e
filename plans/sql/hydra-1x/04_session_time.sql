-- A session may exist before anybody has logged in.
alter table public.hydra_oauth2_authentication_session alter column authenticated_at drop not null;
alter table public.hydra_oauth2_authentication_session alter column authenticated_at drop default;
