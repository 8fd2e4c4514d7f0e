-- Every row belongs to a network from 2.x on. The vendor draws a random id; ours is fixed, so that blue's rows can be
-- given it while they are copied.
create table public.networks (
    id         uuid primary key,
    created_at timestamp not null default now(),
    updated_at timestamp not null default now()
);
insert into public.networks (id) values ('5b1a8a4e-6a2f-4c0e-9f57-0d6f3f5a8e11');
