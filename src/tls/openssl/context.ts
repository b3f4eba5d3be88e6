/** What a connection of OpenSSL is made from: versions, trust, and our own certificate. */

import { cString } from "../../kernel/libc.ts";
import type { EngineOptions } from "../engine.ts";
import { must, newMemory } from "./failures.ts";
import type { Libssl } from "./libssl.ts";

/** `SSL_CTRL_…`; include/openssl/ssl.h. */
const Ctrl = { CHAIN_CERT: 89, SET_MIN_PROTO_VERSION: 123, SET_MAX_PROTO_VERSION: 124 } as const;
const TLS_1_3 = 0x0304n;
const VERIFY_NONE = 0;
const VERIFY_PEER = 1;
/**
 * What is offered, the preferred one first, by its numbers (RFC 8446, B.4): suites whose records
 * can be counted. What a distribution adds is left out.
 */
export const SUITES: ReadonlyMap<number, string> = new Map([
  [0x1302, "TLS_AES_256_GCM_SHA384"],
  [0x1303, "TLS_CHACHA20_POLY1305_SHA256"],
  [0x1301, "TLS_AES_128_GCM_SHA256"],
]);

/**
 * Makes a context, for one use.
 *
 * @param use Makes a connection from it, which keeps what it needs.
 * @throws {Error} OpenSSL refuses something.
 */
export function withContext<T>(
  lib: Libssl,
  options: EngineOptions,
  use: (context: bigint) => T,
): T {
  lib.ERR_clear_error();
  const context = lib.SSL_CTX_new(lib.TLS_client_method());
  must(lib, context !== 0n, "SSL_CTX_new");
  try {
    prepare(lib, context, options);
    return use(context);
  } finally {
    // A connection holds a reference of its own.
    lib.SSL_CTX_free(context);
  }
}

function prepare(lib: Libssl, context: bigint, options: EngineOptions): void {
  const { ca, cert, key, verified } = options;
  for (const cmd of [Ctrl.SET_MIN_PROTO_VERSION, Ctrl.SET_MAX_PROTO_VERSION]) {
    must(lib, lib.SSL_CTX_ctrl(context, cmd, TLS_1_3, 0n) === 1n, "SSL_CTX_set_proto_version");
  }
  must(
    lib,
    lib.SSL_CTX_set_ciphersuites(context, cString([...SUITES.values()].join(":"))) === 1,
    "SSL_CTX_set_ciphersuites",
  );
  lib.SSL_CTX_set_verify(context, verified ? VERIFY_PEER : VERIFY_NONE, 0n);
  if (ca === undefined) {
    must(
      lib,
      lib.SSL_CTX_set_default_verify_paths(context) === 1,
      "SSL_CTX_set_default_verify_paths",
    );
  } else {
    const store = lib.SSL_CTX_get_cert_store(context);
    for (const certificate of certificatesIn(lib, ca.join("\n"))) {
      using _ = certificate;
      must(lib, lib.X509_STORE_add_cert(store, certificate.address) === 1, "X509_STORE_add_cert");
    }
  }
  if (cert === undefined || key === undefined) return;
  let first = true;
  for (const certificate of certificatesIn(lib, cert)) {
    using _ = certificate;
    const { address } = certificate;
    const taken = first
      ? lib.SSL_CTX_use_certificate(context, address) === 1
      // 1: with a reference of the context's own.
      : lib.SSL_CTX_ctrl(context, Ctrl.CHAIN_CERT, 1n, address) === 1n;
    must(lib, taken, first ? "SSL_CTX_use_certificate" : "SSL_CTX_add1_chain_cert");
    first = false;
  }
  const bio = newMemory(lib);
  let parsed = 0n;
  try {
    write(lib, bio, key);
    parsed = lib.PEM_read_bio_PrivateKey(bio, 0n, 0n, 0n);
    must(lib, parsed !== 0n, "PEM_read_bio_PrivateKey");
    must(lib, lib.SSL_CTX_use_PrivateKey(context, parsed) === 1, "SSL_CTX_use_PrivateKey");
  } finally {
    lib.EVP_PKEY_free(parsed);
    lib.BIO_free(bio);
  }
}

/** A certificate, freed by whoever is given it. */
interface Certificate extends Disposable {
  readonly address: bigint;
}

function* certificatesIn(lib: Libssl, pem: string): Generator<Certificate> {
  const bio = newMemory(lib);
  try {
    write(lib, bio, pem);
    for (;;) {
      const address = lib.PEM_read_bio_X509(bio, 0n, 0n, 0n);
      if (address === 0n) break;
      yield { address, [Symbol.dispose]: () => lib.X509_free(address) };
    }
    // That there is no other one is an error to it.
    lib.ERR_clear_error();
  } finally {
    lib.BIO_free(bio);
  }
}

function write(lib: Libssl, bio: bigint, text: string): void {
  const bytes = new TextEncoder().encode(text);
  must(lib, lib.BIO_write(bio, bytes, bytes.length) === bytes.length, "BIO_write");
}
