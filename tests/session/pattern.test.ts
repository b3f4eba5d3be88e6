import fc from "../support/properties.ts";
import assert from "node:assert/strict";
import { endOf, quote, toBytes, toPattern } from "../../src/session/pattern.ts";
import { bytes } from "../support/bytes.ts";

Deno.test("text is what an answer begins with: known at the first byte that differs", () => {
  const ok = toPattern("+OK\r\n");
  assert.equal(endOf(ok, bytes("")), undefined);
  assert.equal(endOf(ok, bytes("+O")), undefined);
  assert.equal(endOf(ok, bytes("+OK\r\nmore")), 5);
  assert.equal(endOf(ok, bytes("-")), "never");
  assert.equal(endOf(ok, bytes("+OK\n")), "never");
});

Deno.test("a RegExp is found anywhere, over bytes as characters, and remembers nothing", () => {
  const ready = toPattern(/220 [^\n]*\n/gy);
  assert.equal(endOf(ready, bytes("banner\n220 mail ESMTP\r\nrest")), 23);
  assert.equal(endOf(ready, bytes("banner\n220 mail ESMTP\r\nrest")), 23);
  assert.equal(endOf(ready, bytes("banner\n220 ma")), undefined);
  assert.equal(endOf(toPattern(/\xff\xfe/), Uint8Array.of(1, 0xff, 0xfe)), 3);
});

Deno.test("text is found as itself and nothing else is, whatever bytes it has", () => {
  fc.assert(fc.property(
    fc.uint8Array({ minLength: 1, maxLength: 6 }),
    fc.uint8Array({ maxLength: 12 }),
    (pattern, received) => {
      const begins = pattern.every((byte, i) => received[i] === byte);
      const mayCome = received.every((byte, i) => i >= pattern.length || pattern[i] === byte);
      const expected = begins ? pattern.length : mayCome ? undefined : "never";
      assert.equal(endOf(toPattern(pattern), received), expected);
    },
  ));
});

Deno.test("what a server said is shown in one line of plain ASCII, and cut", () => {
  assert.equal(
    quote(bytes('-ERR "x" \\ \x1b[31m\r\n\tü')),
    String.raw`"-ERR \"x\" \\ \x1b[31m\r\n\t\xc3\xbc"`,
  );
  assert.equal(quote(new Uint8Array(300).fill(65)), `"${"A".repeat(200)}"… (300 bytes)`);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (any) => {
    assert.match(quote(any), /^"[\x20-\x7e]*"(… \(\d+ bytes\))?$/);
  }));
});

Deno.test("bytes are copied: whoever gave them may use them again", () => {
  const given = Uint8Array.of(1, 2);
  const copy = toBytes(given);
  given[0] = 9;
  assert.deepEqual([...copy], [1, 2]);
  assert.deepEqual([...toBytes("ü")], [0xc3, 0xbc]);
});
