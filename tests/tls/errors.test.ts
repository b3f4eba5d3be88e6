/**
 * What is said of certificates, keys and refusals, against servers of OpenSSL.
 */

import assert from "node:assert/strict";
import { KernelCallError, OptionError, WireError } from "../../src/base/errors.ts";
import { systemClock } from "../../src/base/clock.ts";
import { TcpState } from "../../src/base/ports.ts";
import { unlessAborted } from "../../src/base/waits.ts";
import { type TcpDialer, tcpDialer } from "../../src/kernel/dialer.ts";
import { alertWords } from "../../src/tls/alerts.ts";
import { checkTlsOptions } from "../../src/tls/certificates.ts";
import { tlsDialer } from "../../src/tls/dialer.ts";
import type { EngineFactory, EngineOptions } from "../../src/tls/engine.ts";
import type { TlsOptions } from "../../src/tls/options.ts";
import { TlsWire } from "../../src/tls/tls_wire.ts";
import type { TcpWire } from "../../src/kernel/tcp_wire.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { grantedLibc, patience, testUnless } from "../kernel/helpers.ts";
import { AUTHORITY, CLIENT, dialReading, dialTls, fileOf, noLibssl, pem } from "./helpers.ts";
import { noOpenssl, OpensslServer } from "./openssl.ts";
import { DecryptingServer } from "./servers.ts";
import { listen, resetBy } from "../kernel/helpers.ts";

/** The TLS libraries, of which each has to say the same. */
const LIBRARIES = [
  { library: "node:tls", obstacle: noOpenssl(), dial: dialTls },
  { library: "OpenSSL", obstacle: noOpenssl() ?? noLibssl(), dial: dialReading },
] as const;

/** What a server with such arguments is told apart by. */
interface Case {
  readonly name: string;
  /** Of `openssl s_server`, beside the certificate. */
  readonly server?: readonly string[];
  readonly certificate?: string;
  readonly key?: string;
  readonly tls?: TlsOptions;
  readonly code: string;
  readonly words: RegExp;
}

const WANTS_CLIENT = ["-Verify", "1", "-CAfile", fileOf("authority.pem"), "-verify_return_error"];
const SERVER_SHA256 = new (await import("node:crypto")).X509Certificate(pem("server.pem"))
  .fingerprint256;

const CASES: readonly Case[] = [
  {
    name: "an expired certificate",
    certificate: "expired",
    code: "CERT_HAS_EXPIRED",
    words: /CN=localhost, expired on 2025-02-01 00:00 UTC/,
  },
  {
    name: "a certificate that is not valid yet",
    certificate: "future",
    code: "CERT_NOT_YET_VALID",
    words: /is not valid before 2100-01-01 00:00 UTC; this host's clock says 2/,
  },
  {
    name: "a certificate for another name",
    certificate: "other",
    code: "HOSTNAME_MISMATCH",
    words: /is for DNS:other\.test, not for 127\.0\.0\.1: set tls\.serverName/,
  },
  {
    name: "the name that serverName asks for in vain",
    tls: { serverName: "elsewhere.test" },
    code: "HOSTNAME_MISMATCH",
    words: /is for DNS:localhost, IP Address:127\.0\.0\.1, not for elsewhere\.test/,
  },
  {
    name: "an authority that nobody knows",
    tls: { ca: pem("stranger.pem") },
    code: "UNABLE_TO_GET_ISSUER_CERT",
    words: /was issued by CN=sendq test authority, who is not among tls\.ca/,
  },
  {
    name: "a certificate that is signed by itself",
    certificate: "self",
    code: "DEPTH_ZERO_SELF_SIGNED_CERT",
    words: /is signed by itself .* by tls\.fingerprints, SHA-256 ([0-9A-F]{2}:){31}/,
  },
  {
    name: "a certificate for clients, by an authority that is trusted",
    certificate: "purpose",
    code: "CERT_VERIFY_FAILED",
    words: /was issued by one of tls\.ca; .*extendedKeyUsage|: unsuitable certificate purpose/,
  },
  {
    name: "the same, by an authority whose kind of key Deno cannot check",
    certificate: "curved",
    tls: { ca: pem("curve.pem") },
    code: "CERT_VERIFY_FAILED",
    words: /was issued by one of tls\.ca; .*extendedKeyUsage|: unsuitable certificate purpose/,
  },
  {
    name: "another fingerprint",
    tls: { fingerprints: ["00".repeat(32)] },
    code: "TLS_FINGERPRINT",
    words: new RegExp(`CN=localhost .* issued by CN=sendq test authority, .*${SERVER_SHA256}`),
  },
  {
    name: "a client certificate whose kind of key the server does not take",
    server: [...WANTS_CLIENT, "-client_sigalgs", "RSA+SHA256:RSA-PSS+SHA256"],
    tls: CLIENT,
    code: "TLS_ALERT_CERTIFICATE_REQUIRED",
    words: /wants a certificate of ours, and takes no signature of the kind that tls\.key makes/,
  },
  {
    name: "a client certificate that is missing, in TLS 1.3",
    server: WANTS_CLIENT,
    code: "TLS_ALERT_CERTIFICATE_REQUIRED",
    words: /the server wants a certificate of ours: set tls\.cert and tls\.key/,
  },
  {
    name: "a client certificate that is missing, in TLS 1.2",
    server: [...WANTS_CLIENT, "-tls1_2"],
    code: "TLS_ALERT_HANDSHAKE_FAILURE",
    words: /wants a certificate of ours/,
  },
  {
    name: "a client certificate of an authority that the server does not know",
    server: ["-Verify", "1", "-CAfile", fileOf("stranger.pem"), "-verify_return_error"],
    tls: CLIENT,
    code: "TLS_ALERT_UNKNOWN_CA",
    words: /does not trust who issued our certificate/,
  },
  {
    name: "a client certificate that has expired",
    server: WANTS_CLIENT,
    tls: { cert: pem("expired.pem"), key: pem("expired.key") },
    code: "TLS_ALERT_CERTIFICATE_EXPIRED",
    words: /has expired, says the server.* Our own certificate expired on 2025-02-01/,
  },
  {
    name: "a version that is too old",
    server: ["-tls1_2"],
    tls: { minVersion: "TLSv1.3" },
    code: "TLS_ALERT_PROTOCOL_VERSION",
    words: /speaks no version of TLS from tls\.minVersion/,
  },
  {
    name: "a protocol that the server does not know",
    server: ["-alpn", "syslog"],
    tls: { alpn: ["imap"] },
    code: "TLS_ALERT_NO_APPLICATION_PROTOCOL",
    words: /takes none of the protocols of tls\.alpn/,
  },
  {
    name: "a server that knows of no protocols",
    tls: { alpn: ["imap"] },
    code: "TLS_ALPN",
    words: /takes none of imap/,
  },
  {
    name: "cipher suites whose records cannot be counted",
    server: ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
    code: "TLS_ALERT_HANDSHAKE_FAILURE",
    words: /no cipher suite in common/,
  },
];

for (const { library, obstacle, dial } of LIBRARIES) {
  for (const { name, server = [], certificate = "server", key, tls, ...expected } of CASES) {
    // Of TLS 1.2 OpenSSL is not asked for anything: it has no KeyUpdate.
    const { code, words } = library === "OpenSSL" && server.includes("-tls1_2")
      ? { code: "TLS_ALERT_PROTOCOL_VERSION", words: /speaks no TLS 1\.3, .*confirm "kernel"/ }
      : expected;
    testUnless(obstacle, `${library}: refused, in words: ${name}`, async () => {
      await using openssl = await OpensslServer.start({ certificate, ...(key && { key }) }, server);
      await assert.rejects(dial(openssl.port, tls), (error: Error & { code?: string }) => {
        assert.equal(error.name, "WireError");
        assert.equal(error.code, code, error.message);
        assert.match(error.message, words);
        assert.ok(error.message.includes(`(${code})`), error.message);
        return true;
      });
    });
  }
}

/** A key that says it belongs to the certificate, and cannot sign for it. */
function forgedKey(): string {
  const der = (file: string) =>
    Uint8Array.fromBase64(pem(file).replaceAll(/-----[^-]+-----|\s/g, ""));
  const genuine = der("server.key"), other = der("other.key");
  // PKCS #8 around SEC 1: the private scalar follows 02 01 01 04 20.
  const mark = [0x02, 0x01, 0x01, 0x04, 0x20];
  const at = genuine.findIndex((_, i) => mark.every((byte, j) => genuine[i + j] === byte));
  assert.ok(at > 0);
  const from = at + mark.length;
  genuine.set(other.subarray(from, from + 32), from);
  return `-----BEGIN PRIVATE KEY-----\n${genuine.toBase64()}\n-----END PRIVATE KEY-----\n`;
}

for (const { library, obstacle, dial } of LIBRARIES) {
  for (
    const [version, tls] of [
      ["-tls1_2", AUTHORITY],
      ["-tls1_2", { fingerprints: [SERVER_SHA256] }],
      ["-tls1_3", AUTHORITY],
      ["-tls1_3", { fingerprints: [SERVER_SHA256] }],
    ] as const
  ) {
    if (library === "OpenSSL" && version === "-tls1_2") continue;
    const how = "ca" in tls ? "an authority" : "a fingerprint";
    testUnless(
      obstacle,
      `${library}: who has no key of the certificate is found out: ${how}, ${version}`,
      async () => {
        const file = await Deno.makeTempFile();
        await Deno.writeTextFile(file, forgedKey());
        await using openssl = await OpensslServer.start({ certificate: "server", keyFile: file }, [
          version,
        ]);
        await assert.rejects(dial(openssl.port, tls), { code: "TLS_KEY_NOT_PROVEN" });
        await Deno.remove(file);
      },
    );
  }
}

testUnless(
  noOpenssl(),
  "a certificate that Deno cannot read is not told from a key that is not there, and said so",
  async () => {
    await using openssl = await OpensslServer.start({ certificate: "unknown" });
    for (const tls of [{}, { fingerprints: [SERVER_SHA256] }]) {
      await assert.rejects(dialTls(openssl.port, tls), {
        code: "TLS_KEY_NOT_PROVEN",
        message: /that it shows, or that cannot be read here \(.* an unknown critical extension\)/,
      });
    }
  },
);

for (const { library, obstacle, dial } of LIBRARIES) {
  testUnless(
    obstacle,
    `${library}: a fingerprint is enough, with colons or without`,
    async () => {
      await using openssl = await OpensslServer.start({ certificate: "server" });
      for (const text of [SERVER_SHA256, SERVER_SHA256.replaceAll(":", "").toLowerCase()]) {
        const wire = await dial(openssl.port, { fingerprints: ["11".repeat(32), text] });
        assert.equal(wire.tls.version, "TLSv1.3");
        wire.abort();
      }
    },
  );

  testUnless(
    obstacle,
    `${library}: a name is compared without the dot at its end, an address without its zone`,
    async () => {
      for (
        const [certificate, serverName] of [
          ["server", "localhost."],
          ["addresses", "::1%lo"],
        ] as const
      ) {
        await using openssl = await OpensslServer.start({ certificate });
        (await dial(openssl.port, { serverName })).abort();
      }
    },
  );

  testUnless(
    obstacle,
    `${library}: digits that are no address are a name, which the certificate is not for`,
    async () => {
      await using openssl = await OpensslServer.start({ certificate: "server" });
      await assert.rejects(dial(openssl.port, { serverName: "127.1" }), {
        code: "HOSTNAME_MISMATCH",
        message: /not for 127\.1: set tls\.serverName/,
      });
    },
  );

  testUnless(
    obstacle,
    `${library}: a client certificate is taken, and so is the name it is for`,
    async () => {
      await using openssl = await OpensslServer.start({ certificate: "other" }, [
        ...WANTS_CLIENT,
        "-alpn",
        "syslog",
      ]);
      const wire = await dial(openssl.port, {
        cert: CLIENT.cert,
        key: pem("client.encrypted.key"),
        passphrase: "secret",
        serverName: "other.test",
        alpn: ["imap", "syslog"],
      });
      assert.deepEqual(wire.tls, {
        version: "TLSv1.3",
        cipherSuite: "TLS_AES_256_GCM_SHA384",
        serverCertificateExpiresAtMs: Date.UTC(2126, 0, 1),
        clientCertificateExpiresAtMs: Date.UTC(2126, 0, 1),
      });
      assert.equal(wire.alpn, "syslog");
      assert.equal(wire.accepted, true);
      assert.equal(wire.minHoldMs, 0);
      wire.abort();
    },
  );
}

testUnless(
  noOpenssl(),
  "a server that sends no ticket is connected to, and said, and held for",
  async () => {
    await using openssl = await OpensslServer.start({ certificate: "server" }, [
      "-num_tickets",
      "0",
    ]);
    const told: string[] = [];
    const wire = await dialTls(openssl.port, { acceptMs: 50 }, (words) => told.push(words));
    assert.equal(wire.accepted, false);
    assert.equal(wire.minHoldMs, 5000);
    assert.match(told.join(), /may still refuse: .* held for 5 s/);
    wire.abort();
  },
);

testUnless(
  noOpenssl() ?? noLibssl(),
  "OpenSSL: a server that sends no ticket has accepted us once it answers",
  async () => {
    await using openssl = await OpensslServer.start({ certificate: "server" }, [
      "-num_tickets",
      "0",
    ]);
    const wire = await dialReading(openssl.port, { acceptMs: 0 });
    assert.equal(wire.accepted, true);
    assert.equal(wire.minHoldMs, 0);
    assert.equal(wire.sample().readBytes, 1);
    wire.abort();
  },
);

const noKernel = grantedLibc() === undefined
  ? "needs --allow-ffi=<path of the C library>"
  : undefined;

testUnless(
  noLibssl(),
  "OpenSSL: a server that does not answer KeyUpdates is found out before anything is sent",
  async () => {
    // Deno's own TLS answers none.
    await using server = new DecryptingServer();
    await assert.rejects(dialReading(server.port, { handshakeTimeoutMs: 500 }), {
      code: "TLS_NO_KEY_UPDATE",
      message: /has not answered a TLS KeyUpdate within 0\.5 s, as gnutls and rustls do not/,
    });
    assert.equal(server.bytesOf(0), 0);
  },
);

testUnless(noLibssl(), "OpenSSL: what it refuses to be given is an option's fault", async () => {
  await using server = new DecryptingServer();
  await assert.rejects(dialReading(server.port, { serverName: "x".repeat(300) }), {
    name: "WireError",
    code: "TLS_OPTIONS",
    message: /^the options of TLS cannot be used: SSL_set_tlsext_host_name has failed: /,
  });
});

testUnless(noLibssl(), "OpenSSL: a newest version without KeyUpdates is refused", async () => {
  await assert.rejects(dialReading(1, { maxVersion: "TLSv1.2" }), {
    name: "OptionError",
    option: "tls.maxVersion",
    message: /must not be TLSv1\.2 with confirm "reader"/,
  });
});

for (const { library, dial } of LIBRARIES) {
  const obstacle = library === "OpenSSL" ? noLibssl() : noKernel;
  testUnless(
    obstacle,
    `${library}: a server that speaks something else, or nothing, is said to`,
    async () => {
      using silent = listen();
      const accepted = silent.accept();
      await assert.rejects(dial(silent.port, { handshakeTimeoutMs: 100 }), {
        code: "ETIMEDOUT",
        message: /not over within 0.1 s: is TLS spoken on this port/,
      });
      (await accepted).close();
      const next = silent.accept();
      const dialing = dial(silent.port);
      const conn = await next;
      await conn.read(new Uint8Array(4096));
      conn.close();
      await assert.rejects(dialing, { code: "TLS_TRUNCATED", message: /during the TLS handshake/ });
      // A proxy whose server is gone: an end, and a reset right behind it.
      const gone = silent.accept();
      const ended = dial(silent.port);
      const proxy = await gone;
      await proxy.closeWrite();
      resetBy(proxy);
      await assert.rejects(ended, {
        name: "WireError",
        code: /^(TLS_TRUNCATED|ECONNRESET|EPIPE)$/,
      });
      const other = silent.accept();
      const answered = dial(silent.port);
      const http = await other;
      await http.read(new Uint8Array(4096));
      await http.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
      await assert.rejects(answered, { name: "WireError", message: /^TLS failed: / });
      http.close();
    },
  );
}

for (const { library, dial } of LIBRARIES) {
  const obstacle = library === "OpenSSL" ? noLibssl() : noKernel;
  testUnless(
    obstacle,
    `${library}: an alert with a reset right behind it is what the server has said`,
    async () => {
      using server = listen();
      const alert = new Uint8Array([21, 3, 3, 0, 2, 2, 40]);
      for (let i = 0; i < 10; i++) {
        const accepted = server.accept();
        const refused = assert.rejects(dial(server.port), { code: "TLS_ALERT_HANDSHAKE_FAILURE" });
        const conn = await accepted;
        await conn.read(new Uint8Array(1));
        await conn.write(alert);
        resetBy(conn); // As the kernel does for who closes with bytes unread.
        await refused;
      }
    },
  );
}

for (const hasSaid of [true, false]) {
  const what = hasSaid ? "is looked for the alert that came before it" : "is told as what it is";
  Deno.test(`a reset that a write is told of ${what}`, async () => {
    const chunks = hasSaid ? [new Uint8Array([21, 3, 3, 0, 2, 2, 20])] : [];
    const tcp = {
      sample: () => ({ bytesAcked: 1, state: TcpState.CLOSE }),
      write: () => Promise.reject(new WireError("ECONNRESET", "reset")),
      async read(buffer: Uint8Array): Promise<number | null> {
        await new Promise((resolve) => setTimeout(resolve));
        const chunk = chunks.shift();
        if (chunk === undefined) return null; // Somebody was told of the reset already.
        buffer.set(chunk);
        return chunk.length;
      },
    };
    const engineOf: EngineFactory = (_, events) => ({
      handshake: () => new Promise(() => events.send(new Uint8Array(1)).catch(() => {})),
      authorized: false,
      sending: false,
      feed: () => setTimeout(() => events.failed(new Error("received fatal alert: BadRecordMac"))),
      write() {},
      close() {},
      destroy() {},
    });
    const options = { handshakeTimeoutMs: 60_000 } as unknown as EngineOptions;
    const wire = new TlsWire(tcp as unknown as TcpWire, engineOf, options, systemClock);
    await assert.rejects(wire.agreed(), {
      code: hasSaid ? "TLS_ALERT_BAD_RECORD_MAC" : "ECONNRESET",
    });
  });
}

testUnless(noKernel, "a dial that is given up leaves nothing behind", async () => {
  using silent = listen();
  const accepted = silent.accept();
  const dialer = await tlsDialer({
    tcp: { hostname: "127.0.0.1", port: silent.port },
    tls: AUTHORITY,
    clock: systemClock,
    tell: () => {},
  });
  const controller = new AbortController();
  let withinMs = 0;
  const dialing = dialer.dial(controller.signal, () => {}, (ms) => {
    withinMs = ms;
    controller.abort(new Error("given up"));
  });
  await assert.rejects(dialing, /given up/);
  assert.ok(withinMs >= 11_000);
  (await accepted).close();
});

testUnless(noKernel, "a kernel that refuses to reset hides nothing of a failed dial", async () => {
  using peer = listen();
  const tcp = { hostname: "127.0.0.1", port: peer.port };
  const unhindered = tcpDialer(tcp);
  const inner: TcpDialer = {
    ...unhindered,
    dial: async (...how) => {
      const wire = await unhindered.dial(...how);
      const abort = wire.abort.bind(wire);
      return Object.assign(wire, {
        abort() {
          abort();
          throw new KernelCallError("connect(AF_UNSPEC)", "refused");
        },
      });
    },
  };
  const dialer = await tlsDialer({ tcp, inner, tls: AUTHORITY, clock: systemClock, tell() {} });
  const controller = new AbortController();
  const given = assert.rejects(dialer.dial(controller.signal), /given up/);
  using silent = await peer.accept();
  await silent.read(new Uint8Array(1));
  controller.abort(new Error("given up"));
  await given;
  const failed = assert.rejects(dialer.dial(patience()), { name: "WireError" });
  using other = await peer.accept();
  await other.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await failed;
});

testUnless(
  noKernel,
  "a look at a refused certificate that gets nowhere hides the refusal for 3 s and no longer",
  async () => {
    await using server = new DecryptingServer("self");
    const tcp = { hostname: "127.0.0.1", port: server.port };
    const direct = tcpDialer(tcp);
    const clock = new ManualClock();
    for (const how of ["no answer to the connect", "no answer to the handshake"]) {
      using silent = listen();
      const looks = Promise.withResolvers<void>();
      let dials = 0;
      const inner: TcpDialer = {
        ...direct,
        async dial(...args) {
          if (dials++ === 0) return await direct.dial(...args);
          if (how === "no answer to the handshake") {
            const wire = await tcpDialer({ ...tcp, port: silent.port }).dial(...args);
            looks.resolve();
            return wire;
          }
          const [signal] = args;
          const never = Promise.withResolvers<never>();
          signal.addEventListener("abort", () => never.reject(signal.reason));
          looks.resolve();
          return await never.promise;
        },
      };
      const dialer = await tlsDialer({ tcp, inner, tls: AUTHORITY, clock, tell() {} });
      const dialed = dialer.dial(new AbortController().signal);
      const dialing = assert.rejects(unlessAborted(dialed, patience()), {
        name: "WireError",
        code: "DEPTH_ZERO_SELF_SIGNED_CERT",
      }, how);
      await looks.promise;
      await new Promise((resolve) => setTimeout(resolve, 0));
      clock.advance(3000);
      await dialing;
      assert.equal(clock.timers.size, 0, how);
    }
  },
);

testUnless(
  noKernel,
  "certificates are asked for at each connection; bad ones only cost an attempt",
  async () => {
    await using server = new DecryptingServer();
    const answers: TlsOptions[] = [AUTHORITY, { ca: "nonsense" }, AUTHORITY];
    const dialer = await tlsDialer({
      tcp: { hostname: "127.0.0.1", port: server.port },
      tls: () => Promise.resolve(answers.shift() ?? {}),
      clock: systemClock,
      tell: () => {},
    });
    await assert.rejects(dialer.dial(patience()), {
      name: "WireError",
      code: "TLS_OPTIONS",
      message: /tls\.ca must be a certificate in PEM/,
    });
    (await dialer.dial(patience())).abort();
    assert.equal(answers.length, 0);
  },
);

testUnless(
  noKernel,
  "a function that does not give its options is told of, and is waited for no longer",
  async () => {
    const clock = new ManualClock();
    let hangs = true;
    const controller = new AbortController();
    const open = (signal?: AbortSignal) =>
      tlsDialer({
        tcp: { hostname: "127.0.0.1", port: 9 },
        tls: () => hangs ? new Promise<never>(() => {}) : AUTHORITY,
        optionsTimeoutMs: 500,
        signal,
        clock,
        tell: () => {},
      });
    const late = assert.rejects(open(), /^OptionError: tls must be given within 0\.5 s/);
    clock.advance(500);
    await late;
    const given = assert.rejects(open(controller.signal), /given up/);
    controller.abort(new Error("given up"));
    await given;
    hangs = false;
    const dialer = await open();
    hangs = true;
    const dialed = assert.rejects(dialer.dial(patience()), {
      name: "WireError",
      code: "TLS_OPTIONS",
    });
    clock.advance(500);
    await dialed;
  },
);

const BAD: readonly (readonly [name: string, TlsOptions, option: string, RegExp])[] = [
  ["no certificates", { ca: "nonsense" }, "tls.ca", /must be a certificate in PEM/],
  [
    "a damaged certificate",
    { ca: pem("authority.pem").replace(/^MII/m, "AAA") },
    "tls.ca",
    /certificate 1 is damaged/,
  ],
  [
    "a certificate that is cut off",
    { ...CLIENT, cert: CLIENT.cert + pem("authority.pem").slice(0, 300) },
    "tls.cert",
    /cannot be read: of its 2 certificates 1 are whole/,
  ],
  [
    "a key that is cut off",
    { ...CLIENT, key: CLIENT.key.slice(0, 100) },
    "tls.key",
    /cannot be read: the end of it is missing/,
  ],
  [
    "a key of a kind that cannot be given on",
    { cert: pem("pss.pem"), key: pem("pss.key") },
    "tls.key",
    /is of a kind that cannot be used/,
  ],
  ["a certificate without its key", { cert: CLIENT.cert }, "tls.cert", /needs tls\.key/],
  ["a key without its certificate", { key: CLIENT.key }, "tls.key", /needs tls\.cert/],
  [
    "a key of another certificate",
    { ...CLIENT, key: pem("other.key") },
    "tls.key",
    /does not belong to tls\.cert, the certificate of CN=sendq test client/,
  ],
  [
    "issuers in front",
    { cert: pem("authority.pem") + CLIENT.cert, key: CLIENT.key },
    "tls.key",
    /our own has to come first/,
  ],
  ["no key", { ...CLIENT, key: "nonsense" }, "tls.key", /must be a private key in PEM/],
  [
    "a key without its passphrase",
    { ...CLIENT, key: pem("client.encrypted.key") },
    "tls.key",
    /is encrypted and needs tls\.passphrase/,
  ],
  [
    "a wrong passphrase",
    { ...CLIENT, key: pem("client.encrypted.key"), passphrase: "wrong" },
    "tls.key",
    /cannot be decrypted with tls\.passphrase/,
  ],
  ["a short fingerprint", { fingerprints: ["AB:CD"] }, "tls.fingerprints", /64 hexadecimal/],
  [
    "both kinds of trust",
    { ...AUTHORITY, fingerprints: ["00".repeat(32)] },
    "tls.fingerprints",
    /cannot be combined with tls\.ca/,
  ],
  [
    "versions the wrong way round",
    { minVersion: "TLSv1.3", maxVersion: "TLSv1.2" },
    "tls.minVersion",
    /must not be newer/,
  ],
];

for (const [name, options, option, words] of BAD) {
  Deno.test(`refused before anything is connected: ${name}`, () => {
    assert.throws(() => checkTlsOptions(options), (error) => {
      assert.ok(error instanceof OptionError, String(error));
      assert.equal(error.option, option);
      assert.match(error.message, words);
      // Nothing of a key or a passphrase in any log.
      assert.doesNotMatch(error.message, /BEGIN [A-Z ]*KEY-----\n|wrong(?! way)|secret/);
      return true;
    });
  });
}

testUnless(
  noOpenssl(),
  "a key that only OpenSSL signs with is refused before anything is connected, but for the reader",
  async () => {
    for (
      const [kind, ...how] of [["ed448"], ["secp256k1", "-pkeyopt", "ec_paramgen_curve:secp256k1"]]
    ) {
      const args = ["req", "-x509", "-nodes", "-keyout", "-", "-subj", "/CN=client", "-newkey"];
      const { stdout } = await new Deno.Command("openssl", {
        args: [...args, how.length > 0 ? "ec" : kind ?? "", ...how],
        stderr: "null",
      }).output();
      const both = new TextDecoder().decode(stdout);
      const tls = { ...AUTHORITY, cert: both, key: both };
      await assert.rejects(dialTls(1, tls), {
        name: "OptionError",
        option: "tls.key",
        message: new RegExp(`is of a kind that cannot be used \\(${kind}\\)`),
      });
      await using openssl = await OpensslServer.start({ certificate: "server" });
      if (noLibssl() === undefined) (await dialReading(openssl.port, tls)).abort();
    }
  },
);

Deno.test("a file that has the key beside the certificate is taken for both", () => {
  const both = `\ufeffSome words\n${CLIENT.cert}${CLIENT.key}${AUTHORITY.ca}`;
  const checked = checkTlsOptions({ cert: both, key: both });
  assert.equal(checked.cert?.match(/BEGIN/g)?.length, 2);
  assert.equal(checked.key, checkTlsOptions(CLIENT).key);
});

Deno.test("a protocol's name that has no room in ALPN is refused before anything is connected", () => {
  checkTlsOptions({ alpn: ["x".repeat(255)] });
  assert.throws(() => checkTlsOptions({ alpn: ["é".repeat(128)] }), {
    name: "OptionError",
    option: "tls.alpn",
    message: /must be names of 255 bytes at most/,
  });
});

Deno.test("an alert on a connection that is up is not blamed on its cipher suites", () => {
  const message = "received fatal alert: HandshakeFailure";
  assert.match(alertWords(message)?.words ?? "", /no cipher suite .* wants a certificate/);
  assert.match(alertWords(message, { hasCertificate: true })?.words ?? "", /takes no signature/);
  assert.match(alertWords(message, { isUp: true })?.words ?? "", /renegotiation of TLS 1\.2/);
});

Deno.test("an alert without words of its own is named", () => {
  assert.deepEqual(alertWords("received fatal alert: InternalError"), {
    code: "TLS_ALERT_INTERNAL_ERROR",
    words: "the server ended TLS with the alert InternalError",
  });
  assert.equal(alertWords("unable to verify the first certificate"), undefined);
});
