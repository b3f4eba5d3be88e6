import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { WireError } from "../../src/base/errors.ts";
import {
  bytesToWrite,
  isNoAlert,
  RecordBook,
  RecordFollower,
  recordFormatOf,
} from "../../src/tls/records.ts";

/** RFC 8446, 5.2 and RFC 5288, 7905: what a record of n bytes is in each of them. */
const FORMATS = [
  { version: "TLSv1.3", suite: "TLS_AES_256_GCM_SHA384", recordBytes: (n: number) => n + 22 },
  { version: "TLSv1.3", suite: "TLS_CHACHA20_POLY1305_SHA256", recordBytes: (n: number) => n + 22 },
  {
    version: "TLSv1.2",
    suite: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    recordBytes: (n: number) => n + 29,
  },
  {
    version: "TLSv1.2",
    suite: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    recordBytes: (n: number) => n + 21,
  },
] as const;

function formatOf({ version, suite }: (typeof FORMATS)[number]) {
  const format = recordFormatOf(version, suite);
  assert.ok(format !== undefined);
  return format;
}

/** A record as it passes: its header, and zeroes. */
function record(type: number, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(5 + payloadBytes);
  bytes.set([type, 3, 3, payloadBytes >> 8, payloadBytes & 255]);
  return bytes;
}

Deno.test("only suites whose records can be counted have a format", () => {
  for (const format of FORMATS) assert.ok(formatOf(format));
  const unknown = [
    ["TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"],
    ["TLSv1.1", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
    ["TLSv1.3", "TLS_AES_128_CCM_SHA256"],
  ] as const;
  for (const [version, suite] of unknown) {
    assert.equal(recordFormatOf(version, suite), undefined, `${version} ${suite}`);
  }
});

Deno.test("records are followed however the stream is cut", () => {
  const pieces = fc.array(fc.record({ type: fc.integer({ min: 20, max: 23 }), size: fc.nat(300) }));
  fc.assert(fc.property(pieces, fc.infiniteStream(fc.integer({ min: 1, max: 50 })), (all, cuts) => {
    const expected: number[][] = [], found: number[][] = [];
    const stream: number[] = [];
    for (const { type, size } of all) {
      stream.push(...record(type, size));
      expected.push([type, size, stream.length]);
    }
    const follower = new RecordFollower((...what) => found.push(what));
    const bytes = new Uint8Array(stream);
    for (let at = 0; at < bytes.length;) {
      const end = at + cuts.next().value;
      follower.feed(bytes.subarray(at, end));
      at = end;
      assert.equal(follower.offset, Math.min(at, bytes.length));
    }
    assert.deepEqual(found, expected);
    assert.equal(follower.midRecord, false);
  }));
});

Deno.test("no write ends in a fragment of 2 or 5 bytes, and each makes progress", () => {
  const sizes = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 200_000 }));
  fc.assert(
    fc.property(sizes, (bytes) => {
      const taken = bytesToWrite(bytes);
      assert.ok(taken >= 1 && taken <= bytes);
      assert.ok(![2, 5].includes(taken % 16_384), `${bytes}: ${taken}`);
      assert.ok(taken >= Math.min(bytes, 3 * 16_384) - 1);
    }),
    { examples: [[2], [5], [16_386], [16_389], [49_154]] },
  );
});

type Step =
  | { readonly kind: "write"; readonly bytes: number }
  | { readonly kind: "control"; readonly bytes: number }
  | { readonly kind: "acked"; readonly part: number };

const STEPS = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("write"), bytes: fc.integer({ min: 1, max: 60_000 }) }),
    fc.record({ kind: fc.constant("control"), bytes: fc.constantFrom(2, 5) }),
    fc.record({ kind: fc.constant("acked"), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
  ) as fc.Arbitrary<Step>,
  { maxLength: 40 },
);

for (const each of FORMATS) {
  Deno.test(`${each.version} ${each.suite}: the book agrees with a list of every byte`, () => {
    fc.assert(fc.property(STEPS, (steps) => {
      const format = formatOf(each);
      const book = new RecordBook(format);
      const follower = new RecordFollower((...what) => book.emitted(...what));
      /** For each byte of ciphertext: how much plaintext is whole once it is there. */
      const model: number[] = [];
      let written = 0, acked = 0;
      const pass = (type: number, recordBytes: number) => {
        follower.feed(record(type, recordBytes - 5));
        for (let i = 1; i < recordBytes; i++) model.push(model.at(-1) ?? 0);
      };
      for (const step of steps) {
        if (step.kind === "write") {
          const taken = bytesToWrite(step.bytes);
          book.expect(taken);
          assert.ok(book.expectsRecords);
          for (let left = taken; left > 0; left -= 16_384) {
            const fragment = Math.min(left, 16_384);
            pass(23, each.recordBytes(fragment));
            written += fragment;
            model.push(written);
          }
        } else if (step.kind === "control") {
          const hidden = format.hidesTypes;
          if (!hidden && step.bytes === 5) continue; // 1.2 has no KeyUpdate.
          pass(hidden ? 23 : 21, each.recordBytes(step.bytes));
          model.push(written);
        } else {
          acked = Math.max(acked, Math.floor(step.part * model.length));
          book.forget(acked);
        }
        assert.equal(book.expectsRecords, false);
        assert.equal(book.writtenBytes, written);
        for (const at of [acked, Math.floor((acked + model.length) / 2), model.length]) {
          assert.equal(book.plainWithin(at), model[at - 1] ?? 0);
        }
      }
    }));
  });

  Deno.test(`${each.version} ${each.suite}: a record that was not due is refused`, () => {
    const due = fc.integer({ min: 1, max: 16_384 }).filter((n) => n !== 2 && n !== 5);
    const another = fc.integer({ min: 0, max: 16_700 });
    fc.assert(fc.property(due, another, fc.constantFrom(20, 21, 22, 23), (n, payload, type) => {
      const book = new RecordBook(formatOf(each));
      book.expect(n);
      const right = each.recordBytes(n) - 5;
      const control = isControl(each, type, payload);
      if (control || (type === 23 && payload === right)) return;
      assert.throws(() => book.emitted(type, payload, 1), { code: "TLS_ACCOUNTING" });
    }));
    const idle = new RecordBook(formatOf(each));
    assert.throws(() => idle.emitted(23, each.recordBytes(100) - 5, 1), WireError);
  });
}

function isControl(
  { version, recordBytes }: (typeof FORMATS)[number],
  type: number,
  payload: number,
): boolean {
  if (version === "TLSv1.2") return type === 21;
  return type === 23 && [2, 5].some((bytes) => payload === recordBytes(bytes) - 5);
}

Deno.test("a key of TLS 1.2 is not used for more records than it is good for", () => {
  const [, , gcm12] = FORMATS;
  const book = new RecordBook(formatOf(gcm12));
  for (let i = 0; i < 2 ** 23; i++) book.emitted(21, 26, i);
  assert.throws(() => book.expect(1), { code: "TLS_KEY_USED_UP" });
  assert.equal(book.writtenBytes, 0);
});

Deno.test("an alert of TLS 1.3 is known by its size, one of 1.2 by its type", () => {
  const [one3, , one2] = FORMATS;
  assert.equal(isNoAlert(formatOf(one3), 19), false);
  assert.equal(isNoAlert(formatOf(one3), 20), true);
  assert.equal(isNoAlert(formatOf(one2), 19), true);
});
