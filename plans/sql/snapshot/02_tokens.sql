-- The tokens point to the new table, and the two old ones go.
ALTER TABLE refresh_token DROP CONSTRAINT refresh_token_challenge_fkey;
UPDATE refresh_token t SET challenge = NULL
WHERE NOT EXISTS (SELECT FROM flow f WHERE f.challenge = t.challenge);
ALTER TABLE refresh_token
    ADD CONSTRAINT refresh_token_challenge_fkey FOREIGN KEY (challenge) REFERENCES flow (challenge) ON DELETE CASCADE;
CREATE INDEX refresh_token_challenge_idx ON refresh_token (challenge);

DROP TABLE consent_request;
DROP TABLE login_request;
