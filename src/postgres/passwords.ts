/**
 * How a password is written when somebody logs in with SCRAM: RFC 4013, which the client library
 * leaves out.
 */

/** RFC 3454, C.1.2: other spaces are the one of ASCII. */
const SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu;
/** RFC 3454, B.1: what nobody sees counts for nothing. */
const NOTHING = /[\u00ad\u034f\u1806\u180b-\u180d\u200c\u200d\u2060\ufe00-\ufe0f\ufeff]/gu;

/**
 * The spellings under which a server may know a password, the likeliest one first: for SCRAM it is
 * prepared before, unless it has characters for which there is no rule. For MD5, and where
 * somebody else checks it, it is what was typed.
 */
export function spellingsOf(password: string): readonly [likeliest: string, asTyped?: string] {
  const prepared = password.replace(SPACES, " ").replace(NOTHING, "").normalize("NFKC");
  return prepared === password ? [password] : [prepared, password];
}
