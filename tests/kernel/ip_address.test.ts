import assert from "node:assert/strict";
import { formatHostPort } from "../../src/base/remote.ts";
import {
  decodeSockaddr,
  encodeSockaddr,
  formatIpAddress,
  isIpv4,
  parseIpAddress,
} from "../../src/kernel/ip_address.ts";

function hex(address: Uint8Array | undefined): string | undefined {
  return address && [...address].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

Deno.test("addresses: text to 16 bytes", () => {
  const v4 = "00000000000000000000ffffc0000207";
  assert.equal(hex(parseIpAddress("192.0.2.7")), v4);
  assert.equal(hex(parseIpAddress("::ffff:192.0.2.7")), v4);
  assert.equal(hex(parseIpAddress("::ffff:c000:207")), v4);
  assert.equal(hex(parseIpAddress("::")), "0".repeat(32));
  assert.equal(hex(parseIpAddress("::1")), "0".repeat(31) + "1");
  assert.equal(hex(parseIpAddress("2001:db8::")), "20010db8" + "0".repeat(24));
  assert.equal(hex(parseIpAddress("fe80::1%2")), "fe80" + "0".repeat(27) + "1");
  assert.equal(hex(parseIpAddress("1:2:3:4:5:6:7:8")), "00010002000300040005000600070008");
});

Deno.test("addresses: what is none is refused", () => {
  for (
    const text of [
      "",
      "localhost",
      "1.2.3",
      "1.2.3.256",
      "1.2.3.4.5",
      ":1",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4::5:6:7:8",
      "g::",
      "1.2.3.4::",
    ]
  ) {
    assert.equal(parseIpAddress(text), undefined, text);
  }
});

Deno.test("addresses: sockaddr there and back", () => {
  for (const [text, length] of [["192.0.2.7", 16], ["fe80::1", 28]] as const) {
    const address = parseIpAddress(text);
    assert.ok(address);
    const scopeId = length === 28 ? 3 : 0;
    const bytes = encodeSockaddr({ address, port: 0x1234, scopeId });
    assert.equal(bytes.byteLength, length);
    assert.deepEqual([...bytes.subarray(2, 4)], [0x12, 0x34]);
    assert.deepEqual(decodeSockaddr(bytes, length), { address, port: 0x1234, scopeId });
    assert.equal(isIpv4(address), length === 16);
    assert.equal(decodeSockaddr(bytes, length - 1), undefined);
  }
  assert.equal(decodeSockaddr(new Uint8Array([1, 0, ...new Uint8Array(26)]), 28), undefined);
});

Deno.test("addresses: host and port as text", () => {
  assert.equal(formatHostPort("legacy", 4000), "legacy:4000");
  assert.equal(formatHostPort("::1", 4000), "[::1]:4000");
  assert.equal(formatHostPort("[::1]", 4000), "[::1]:4000");
});

Deno.test("addresses: text, there and back", () => {
  for (const text of ["192.0.2.7", "2001:db8::1", "::1", "fe80::1:0:0:1"]) {
    const address = parseIpAddress(text);
    assert.ok(address);
    assert.equal(formatIpAddress(isIpv4(address) ? address.subarray(12) : address), text);
  }
});
