/** A proxy as it is written. */
import fc from "../support/properties.ts";
import assert from "node:assert/strict";
import { OptionError } from "../../src/base/errors.ts";
import { formatProxy, proxyOf, type ProxyServer } from "../../src/base/via.ts";

const TAKEN: readonly [url: string, Partial<ProxyServer>, shown: string][] = [
  [
    "socks5://proxy:1080",
    { scheme: "socks5", hostname: "proxy", port: 1080, handshakeTimeoutMs: 10_000 },
    "socks5://proxy:1080",
  ],
  ["socks5h://proxy:1080", { scheme: "socks5" }, "socks5://proxy:1080"],
  ["SOCKS5://proxy:1080/", { scheme: "socks5" }, "socks5://proxy:1080"],
  ["http://[2001:db8::1]:80", { hostname: "2001:db8::1", port: 80 }, "http://[2001:db8::1]:80"],
  [
    "http://[fe80::1%eth0]:80",
    { hostname: "fe80::1%eth0", port: 80 },
    "http://[fe80::1%eth0]:80",
  ],
  [
    "socks5://a%3Ab:p@ss:w/o%25@proxy:3128",
    { credentials: { username: "a:b", password: "p@ss:w/o%" } },
    "socks5://proxy:3128",
  ],
  ["http://u:@proxy:3128", { credentials: { username: "u", password: "" } }, "http://proxy:3128"],
];

Deno.test("a proxy is read from its URL, and shown without what is secret", () => {
  for (const [url, expected, shown] of TAKEN) {
    const proxy = proxyOf(url);
    assert.deepEqual({ ...proxy, ...expected }, proxy, url);
    assert.equal(formatProxy(proxy), shown);
  }
});

Deno.test("credentials apart are taken as they are", () => {
  const { credentials } = proxyOf({ url: "http://proxy:80", credentials: "u:p:%41@" });
  assert.deepEqual(credentials, { username: "u", password: "p:%41@" });
});

const REFUSED: readonly [via: string | Parameters<typeof proxyOf>[0], words: RegExp][] = [
  ["proxy:1080", /via\.url must be socks5:\/\/HOST:PORT or http:\/\/HOST:PORT, with/],
  ["https://hush@proxy:443", /must be socks5.*; it begins with https:\/\//],
  ["socks4://proxy:1080", /must be socks5.*; it begins with socks4:\/\//],
  ["socks5://proxy", /must be socks5/],
  ["socks5://user:hush", /must be socks5/],
  ["socks5://proxy:0", /must be socks5/],
  ["socks5://u:hush@proxy:1080/path", /must be socks5/],
  ["socks5://u:hush@a:1,tcp://b:2", /must be socks5/],
  ["socks5://hush@proxy:1080", /via\.url must be USER:PASSWORD/],
  ["socks5://u:hush%@proxy:1080", /percent-encoded/],
  [`socks5://u:hush${"x".repeat(255)}@proxy:1080`, /255 bytes at most/],
  ["http://a%3Ab:hush@proxy:1080", /a user without a colon/],
  [{ url: "http://proxy:80", credentials: "hush" }, /via\.credentials must be USER:PASSWORD/],
  [{ url: "http://u:hush@proxy:80", credentials: "u:hush" }, /must be left out where via\.url/],
  [{ url: "" }, /via\.url/],
  [{ url: "http://proxy:80", handshakeTimeoutMs: 1 }, /via\.handshakeTimeoutMs/],
];

Deno.test("a URL that is none is refused, and never shown", () => {
  for (const [via, words] of REFUSED) {
    assert.throws(() => proxyOf(via), (error) => {
      assert.ok(error instanceof OptionError, String(error));
      assert.match(error.message, words);
      assert.ok(!error.message.includes("hush"), error.message);
      return true;
    });
  }
});

Deno.test("whatever stands there: a proxy, or an error that does not repeat it", () => {
  const part = fc.string({ unit: fc.constantFrom(..."ab:@/%[].,1 \n\u0000é") });
  fc.assert(
    fc.property(fc.constantFrom("socks5://", "http://", "x", ""), part, (scheme, rest) => {
      const url = `${scheme}${rest}SECRET${rest}@p:1`;
      try {
        const { credentials } = proxyOf(url);
        assert.ok(`${credentials?.username}:${credentials?.password}`.includes("SECRET"));
      } catch (error) {
        assert.ok(error instanceof OptionError, String(error));
        assert.ok(!error.message.includes("SECRET"), error.message);
      }
    }),
    { numRuns: 2000 },
  );
});
