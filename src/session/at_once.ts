/**
 * What a function of the user's has given that is asked while packets go out.
 *
 * @param given What it returned.
 * @param who The function, for words.
 * @throws {TypeError} A Promise, for which nobody can wait there; how it ends is nobody's business.
 */
export function givenAtOnce(given: unknown, who: string): unknown {
  if (!(given instanceof Promise)) return given;
  given.catch(() => {});
  throw new TypeError(`${who} returned a Promise: it has to answer at once`);
}
