-- The four tables are in the flow now.
drop table public.hydra_oauth2_consent_request_handled;
drop table public.hydra_oauth2_consent_request;
drop table public.hydra_oauth2_authentication_request_handled;
drop table public.hydra_oauth2_authentication_request;
