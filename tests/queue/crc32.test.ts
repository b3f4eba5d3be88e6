import assert from "node:assert/strict";
import { crc32 as ofTheRuntime } from "node:zlib";
import { crc32 } from "../../src/queue/store/crc32.ts";
import { bytes } from "../support/bytes.ts";

Deno.test("crc32: by hand and by the runtime it is zlib's, whatever stands in front", () => {
  assert.equal(crc32(bytes("123456789")), 0xcbf43926);
  const all = Uint8Array.from({ length: 3000 }, (_, i) => (i * 31 + (i >> 3)) & 0xff);
  for (const length of [0, 1, 2, 8, 255, 1023, 1024, 1025, 3000]) {
    for (const before of [0, 1, 0x80000000, 0xffffffff]) {
      const some = all.subarray(0, length);
      assert.equal(crc32(some, before), ofTheRuntime(some, before), `${length}, ${before}`);
    }
  }
});
