/**
 * TLS for the recording server, by OpenSSL: every byte that its program reads, and none
 * before. It shares nothing with the code under test, so that the two cannot be wrong in the
 * same way.
 *
 * @module
 */

import { checked } from "./libc.ts";

const SYMBOLS = {
  /** const SSL_METHOD *TLS_server_method(void) */
  TLS_server_method: { parameters: [], result: "usize" },
  /** SSL_CTX *SSL_CTX_new(const SSL_METHOD *) */
  SSL_CTX_new: { parameters: ["usize"], result: "usize" },
  /** int SSL_CTX_use_certificate_chain_file(SSL_CTX *, const char *file) */
  SSL_CTX_use_certificate_chain_file: { parameters: ["usize", "buffer"], result: "i32" },
  /** int SSL_CTX_use_PrivateKey_file(SSL_CTX *, const char *file, int type) */
  SSL_CTX_use_PrivateKey_file: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  /** SSL *SSL_new(SSL_CTX *) */
  SSL_new: { parameters: ["usize"], result: "usize" },
  /** void SSL_free(SSL *) */
  SSL_free: { parameters: ["usize"], result: "void" },
  /** int SSL_set_fd(SSL *, int fd) */
  SSL_set_fd: { parameters: ["usize", "i32"], result: "i32" },
  /** void SSL_set_accept_state(SSL *) */
  SSL_set_accept_state: { parameters: ["usize"], result: "void" },
  /** int SSL_read(SSL *, void *, int num) */
  SSL_read: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  /** int SSL_pending(const SSL *) */
  SSL_pending: { parameters: ["usize"], result: "i32" },
  /** int SSL_get_error(const SSL *, int ret) */
  SSL_get_error: { parameters: ["usize", "i32"], result: "i32" },
  /** void ERR_clear_error(void) */
  ERR_clear_error: { parameters: [], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

const SSL_FILETYPE_PEM = 1;
const SSL_ERROR_WANT_READ = 2;
const SSL_ERROR_WANT_WRITE = 3;

/** Why no server can speak TLS here; `undefined`: it can. */
export function missingTls(): string | undefined {
  try {
    Deno.dlopen("libssl.so.3", SYMBOLS).close();
    return undefined;
  } catch {
    return "libssl.so.3 is not installed";
  }
}

/** The server's side of TLS, for any number of connections. */
export class ServerTls {
  readonly #lib = Deno.dlopen("libssl.so.3", SYMBOLS).symbols;
  readonly #context: bigint;

  /** @param files PEM: a certificate, and its key. */
  constructor({ cert, key }: { readonly cert: string; readonly key: string }) {
    const lib = this.#lib;
    const path = (text: string) => new TextEncoder().encode(`${text}\0`);
    this.#context = lib.SSL_CTX_new(lib.TLS_server_method());
    const taken = lib.SSL_CTX_use_certificate_chain_file(this.#context, path(cert)) === 1 &&
      lib.SSL_CTX_use_PrivateKey_file(this.#context, path(key), SSL_FILETYPE_PEM) === 1;
    if (!taken) throw new Error(`OpenSSL does not take ${cert} and ${key}`);
  }

  /** Speaks TLS on a connection. The handshake is made by what is read. */
  accept(fd: number): ConnectionTls {
    const lib = this.#lib;
    const ssl = lib.SSL_new(this.#context);
    checked("SSL_set_fd()", lib.SSL_set_fd(ssl, fd) - 1);
    lib.SSL_set_accept_state(ssl);
    return {
      read(buffer, maxBytes) {
        lib.ERR_clear_error();
        const count = lib.SSL_read(ssl, buffer, maxBytes);
        if (count > 0) return count;
        const error = lib.SSL_get_error(ssl, count);
        return error === SSL_ERROR_WANT_READ || error === SSL_ERROR_WANT_WRITE ? undefined : 0;
      },
      get hasMore() {
        return lib.SSL_pending(ssl) > 0;
      },
      free: () => lib.SSL_free(ssl),
    };
  }
}

/** TLS on one connection. */
export interface ConnectionTls {
  /**
   * Reads once.
   *
   * @returns How many bytes; 0 at the end, `undefined` where nothing is there yet.
   */
  read(buffer: Uint8Array<ArrayBuffer>, maxBytes: number): number | undefined;
  /** Whether a part of a record was read, of which no descriptor tells. */
  readonly hasMore: boolean;
  /** Forgets it; the descriptor stays open. */
  free(): void;
}
