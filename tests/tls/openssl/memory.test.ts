/**
 * What OpenSSL gives is given back exactly once, however a connection ends; and a process
 * that makes many connections does not grow.
 */

import assert from "node:assert/strict";
import { type Libssl, libssl } from "../../../src/tls/openssl/libssl.ts";
import { enginesOf } from "../../../src/tls/openssl/engine.ts";
import type { TlsOptions } from "../../../src/tls/options.ts";
import { nextDescriptorHint } from "../../../src/kernel/descriptor.ts";
import { testUnless } from "../../kernel/helpers.ts";
import { CLIENT, dialReading, dialTls, noLibssl, pem } from "../helpers.ts";
import { noOpenssl, OpensslServer } from "../openssl.ts";

/** Which function gives something, and which takes it back. */
const KINDS = {
  context: { makes: ["SSL_CTX_new"], frees: "SSL_CTX_free" },
  connection: { makes: ["SSL_new"], frees: "SSL_free" },
  memory: { makes: ["BIO_new"], frees: "BIO_free" },
  certificate: { makes: ["PEM_read_bio_X509"], frees: "X509_free" },
  key: { makes: ["PEM_read_bio_PrivateKey"], frees: "EVP_PKEY_free" },
} as const;

/** OpenSSL, with a list of what was given and not taken back. */
class Watched {
  readonly held: Map<bigint, string> = new Map();
  made = 0;
  readonly faults: string[] = [];
  readonly lib: Libssl;

  constructor() {
    const attached = new Map<bigint, readonly bigint[]>();
    this.lib = new Proxy(libssl(), {
      get: (target, name: keyof Libssl) => (...args: never[]) => {
        const call = target[name] as unknown as (...args: never[]) => unknown;
        const [first = 0n, second = 0n, third = 0n] = args as unknown as bigint[];
        for (const [kind, { frees }] of Object.entries(KINDS)) {
          // A null pointer may be freed.
          if (name === frees && first !== 0n) this.#free(kind, first);
        }
        if (name === "SSL_free") {
          for (const memory of attached.get(first) ?? []) this.#free("memory", memory);
          attached.delete(first);
        }
        if (name === "SSL_set_bio") attached.set(first, [second, third]);
        const result = call(...args);
        for (const [kind, { makes }] of Object.entries(KINDS)) {
          if ((makes as readonly string[]).includes(name) && result !== 0n) {
            this.made++;
            this.held.set(result as bigint, kind);
          }
        }
        return result;
      },
    });
  }

  #free(kind: string, address: bigint): void {
    if (this.held.get(address) !== kind) this.faults.push(`${kind} ${address} was not ours`);
    this.held.delete(address);
  }
}

const WAYS: readonly (readonly [name: string, server: readonly string[], tls: TlsOptions])[] = [
  ["a connection", [], CLIENT],
  ["a server that is not trusted", [], { ca: pem("stranger.pem") }],
  ["a fingerprint", [], { fingerprints: ["00".repeat(32)] }],
  ["a server without TLS 1.3", ["-tls1_2"], {}],
];

for (const [name, server, tls] of WAYS) {
  testUnless(
    noOpenssl() ?? noLibssl(),
    `what OpenSSL gives is given back once: ${name}`,
    async () => {
      await using openssl = await OpensslServer.start({ certificate: "server" }, server);
      const watched = new Watched();
      const engineOf = enginesOf(watched.lib);
      for (let i = 0; i < 3; i++) {
        try {
          const wire = await dialTls(openssl.port, tls, () => {}, engineOf);
          await wire.write(new Uint8Array(100_000));
          if (i === 1) wire.abort();
          wire.close();
          wire.close();
        } catch (error) {
          assert.notEqual(name, "a connection", String(error));
        }
      }
      assert.deepEqual(watched.faults, []);
      assert.deepEqual([...watched.held.values()], []);
      assert.ok(watched.made > 10, `only ${watched.made} were made`);
    },
  );
}

testUnless(noLibssl(), "a key that OpenSSL refuses leaves nothing behind", async () => {
  const watched = new Watched();
  const options = {
    ...{ handshakeTimeoutMs: 1000, acceptMs: 0, expectedName: "localhost", verified: true },
    clientCertificateExpiresAtMs: undefined,
    cert: CLIENT.cert,
    key: pem("other.key"),
  };
  const events = {
    send: () => Promise.resolve(),
    sent() {},
    received() {},
    keyUpdated() {},
    closed() {},
    failed() {},
  };
  await assert.rejects(async () => await enginesOf(watched.lib)(options, events), {
    message: /^SSL_CTX_use_PrivateKey has failed: key values mismatch$/,
  });
  assert.deepEqual([watched.faults, [...watched.held.values()]], [[], []]);
  assert.ok(watched.made > 2);
});

testUnless(
  noOpenssl() ?? noLibssl(),
  "200 connections leave neither memory nor descriptors behind",
  async () => {
    await using openssl = await OpensslServer.start({ certificate: "server" });
    const connect = async () => {
      const wire = await dialReading(openssl.port);
      await wire.write(new Uint8Array(10_000));
      wire.abort();
    };
    for (let i = 0; i < 50; i++) await connect();
    const before = { rssBytes: Deno.memoryUsage().rss, descriptor: nextDescriptorHint() ?? NaN };
    for (let i = 0; i < 200; i++) await connect();
    // The lowest one that is free; Deno may still be closing the last one.
    assert.ok((nextDescriptorHint() ?? NaN) <= before.descriptor + 2, "descriptors are left open");
    // Each connection's buffers, contexts and certificates are more than 200 KiB.
    const grownBytes = Deno.memoryUsage().rss - before.rssBytes;
    assert.ok(grownBytes < 20 * 2 ** 20, `${grownBytes} bytes more`);
  },
);
