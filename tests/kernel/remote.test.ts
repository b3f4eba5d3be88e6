import assert from "node:assert/strict";
import {
  formatHostPort,
  formatRemote,
  normalizeHostname,
  parseRemote,
} from "../../src/base/remote.ts";
import { tcpDialer } from "../../src/kernel/dialer.ts";

Deno.test("parseRemote: what is read is what is written, and can be granted", () => {
  const cases: readonly (readonly [string, string, string?])[] = [
    ["tcp://legacy:4000", "legacy"],
    ["tcp://LEGACY:4000", "LEGACY"],
    ["TCP://a_b.test:4000/", "a_b.test", "tcp://a_b.test:4000"],
    ["tcp://192.0.2.7:4000", "192.0.2.7"],
    ["tcp://[::1]:4000", "::1"],
    ["tcp://[2001:DB8:0::1]:4000", "2001:db8::1", "tcp://[2001:db8::1]:4000"],
    ["tcp://bücher.test:4000", "xn--bcher-kva.test", "tcp://xn--bcher-kva.test:4000"],
    ["tcp://b%C3%BCcher.test:4000", "xn--bcher-kva.test", "tcp://xn--bcher-kva.test:4000"],
    ["tcp://[fe80::1%eth0]:4000", "fe80::1%eth0"],
    ["tcp://[fe80::1%25eth0]:4000", "fe80::1%eth0", "tcp://[fe80::1%eth0]:4000"],
    ["tcp://[FE80::1%eth0.100]:4000", "fe80::1%eth0.100", "tcp://[fe80::1%eth0.100]:4000"],
    ["tcp://[fe80::1%2]:4000", "fe80::1%2"],
    ["tcp://[fe80::1%25]:4000", "fe80::1%25"],
    ["tcp://[febf::1%eth0]:4000", "febf::1%eth0"],
  ];
  for (const [url, hostname, written = url] of cases) {
    const remote = parseRemote(url);
    assert.deepEqual(remote, { hostname, port: 4000 }, url);
    assert.equal(formatRemote(remote), written);
    assert.deepEqual(parseRemote(written), remote);
    assert.equal(normalizeHostname(hostname), hostname);
    // Throws where Deno does not take the host.
    Deno.permissions.querySync({ name: "net", host: formatHostPort(hostname, 4000) });
  }
});

Deno.test("parseRemote: a Unix socket by its whole path, which can be granted", () => {
  const longest = `/run/${"x".repeat(102)}`;
  const cases: readonly (readonly [string, string])[] = [
    ["unix:/run/app.sock", "/run/app.sock"],
    ["unix:///run/app.sock", "/run/app.sock"],
    ["unix:/run/a b%20,c:4000?x#y", "/run/a b%20,c:4000?x#y"],
    [`unix:${longest}`, longest],
  ];
  for (const [url, path] of cases) {
    assert.deepEqual(parseRemote(url), { scheme: "unix", path });
    assert.equal(formatRemote({ scheme: "unix", path }), `unix:${path}`);
    Deno.permissions.querySync({ name: "net", host: `unix:${path}` });
  }
  const several = parseRemote("unix:/run/a,unix:/run/b");
  assert.deepEqual(several, {
    scheme: "unix",
    path: "/run/a",
    standbys: [{ scheme: "unix", path: "/run/b" }],
  });
  assert.equal(formatRemote(several), "unix:/run/a,unix:/run/b");
  assert.deepEqual(parseRemote("unix:/run/a, unix:/run/b"), several);
});

Deno.test("parseRemote: what is none says why", () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ["unix:", /"" is not the whole path .*unix:\/run\/app\.sock/],
    ["unix:app.sock", /"app\.sock" is not the whole path/],
    ["unix://host/app.sock", /not the whole path/],
    ["unix:@app", /"@app" is not the whole path .*abstract/],
    ["unix:/run/a\0b", /not the whole path/],
    [`unix:/run/${"ü".repeat(52)}`, /has 109 bytes, .* at most 107: .*symbolic link/],
    ["unix:/run/a,tcp://x:1", /all tcp:\/\/, all tls:\/\/ or all unix:/],
    ["unix:/run/a,unix:/run/a", /unix:\/run\/a is there twice/],
    ["tcp://my host:4000", /has a host or a port that cannot be/],
    ["tcp://:4000", /has a host or a port that cannot be/],
    ["tcp://x:65536", /has a host or a port that cannot be/],
    ["legacy:4000", /^"legacy:4000" has no scheme that sendq speaks; expected tcp:\/\/HOST:PORT/],
    ["192.0.2.7:4000", /has no scheme that sendq speaks/],
    ["tcp://fe80::1:4000", /has a host or a port that cannot be; .*tls:\/\/\[::1\]:6514/],
    ["http://x:1", /has no scheme that sendq speaks/],
    ["http://[fe80::1%eth0]:1", /has no scheme that sendq speaks/],
    ["tcp://x", /no usable port/],
    ["tcp://x:0", /no usable port/],
    ["tcp://x:1/path", /more than host and port/],
    ["tcp://[::1]:1/%x", /more than host and port/],
    ["tcp://a%00b:4000", /"a%00b" is neither a name nor an address/],
    ["tcp://a%2Fb:4000", /neither a name nor an address/],
    ["tcp://*:4000", /neither a name nor an address/],
    ["tcp://[fe80::1]:4000", /needs the interface.*fe80::1%eth0/],
    ["tcp://[fe80::1%]:4000", /needs the interface/],
    ["tcp://[fe80::1%a/b]:4000", /needs the interface/],
    ["tcp://[2001:db8::1%eth0]:4000", /zone.* link-local addresses .*only/],
  ];
  for (const [url, message] of cases) {
    assert.throws(() => parseRemote(url), (error: unknown) => {
      assert.ok(error instanceof TypeError, url);
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("dialer: a host is read as in a URL", () => {
  const remoteOf = (hostname: string) => tcpDialer({ hostname, port: 4000 }).remote;
  assert.equal(remoteOf("bücher.test"), "tcp://xn--bcher-kva.test:4000");
  assert.equal(remoteOf("[fe80::1%25eth0]"), "tcp://[fe80::1%eth0]:4000");
  for (const hostname of ["fe80::1", "a b", "x/y", "user@host", "1::2::3"]) {
    assert.throws(() => remoteOf(hostname), TypeError, hostname);
  }
});
