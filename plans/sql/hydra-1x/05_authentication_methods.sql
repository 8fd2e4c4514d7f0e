-- How somebody logged in.
alter table public.hydra_oauth2_consent_request add column amr text not null default '';
alter table public.hydra_oauth2_authentication_request_handled add column amr text not null default '';
