-- rehearse/read_locale: what a database of the same encoding and sort order is made with.
-- params:  none
-- returns: one row: encoding, collate, ctype, provider ('c', 'i' or 'b'), locale (of the provider; null for 'c')
-- majors:  15-18 (the column of the provider's locale was renamed in 17)
select pg_encoding_to_char(d.encoding)::text as encoding,
       d.datcollate::text as collate,
       d.datctype::text as ctype,
       d.datlocprovider::text as provider,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') as locale
from pg_database d
where d.datname = current_database()
