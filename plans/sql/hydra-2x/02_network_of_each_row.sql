-- All tables are empty here, so NOT NULL without a default costs nothing.
alter table public.hydra_client add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_jwk add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_access add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_refresh add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_code add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_oidc add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_pkce add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_authentication_session add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_logout_request add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_jti_blacklist add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
alter table public.hydra_oauth2_obfuscated_authentication_session add column nid uuid not null references public.networks (id) on update restrict on delete cascade;
