-- What a vendor's migration does that no mapping of single rows can: two tables become one, in hours of joins.
CREATE TABLE flow (
    login_challenge text PRIMARY KEY,
    challenge       text UNIQUE,      -- of the consent: revocations name it as blue does
    subject         text NOT NULL,
    granted_scope   jsonb NOT NULL DEFAULT '[]'
);

INSERT INTO flow (login_challenge, challenge, subject, granted_scope)
SELECT l.challenge, c.challenge, l.subject,
       coalesce(to_jsonb(string_to_array(nullif(c.granted_scope, ''), '|')), '[]')
FROM login_request l
LEFT JOIN consent_request c ON c.login_challenge = l.challenge;
