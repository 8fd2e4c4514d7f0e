-- Clients may name the algorithm they sign their authentication with.
alter table public.hydra_client
    add column token_endpoint_auth_signing_alg varchar(10) not null default '';
