/**
 * OpenSSL's library, through Deno's FFI: the only file beside `src/kernel/libc.ts` that
 * knows `Deno.dlopen`.
 *
 * - Loaded at first use, never at import.
 * - Only `buffer` and `usize` parameters: a grant of one path forbids
 *   `Deno.UnsafePointer`. Every call is synchronous, so a buffer is held by the call's own
 *   arguments until it has returned. OpenSSL keeps none of them: what it has to keep goes
 *   through a BIO, whose memory is its own.
 * - libcrypto's functions are found through libssl, which is linked with it: one path to
 *   grant, and never two libraries that do not fit.
 *
 * @module
 */

import { messageOf, UnsupportedPlatformError } from "../../base/errors.ts";
import {
  exists,
  grantOf,
  isEverythingGranted,
  isGranted,
  libsslCandidates,
  makeOf,
} from "../../kernel/library_paths.ts";

/** `int`, `long` and `size_t` are 32, 64 and 64 bits wide on x86_64 and aarch64. */
const SYMBOLS = {
  OpenSSL_version_num: { parameters: [], result: "u64" },

  // Contexts: SSL_CTX *ctx comes first.
  TLS_client_method: { parameters: [], result: "usize" },
  SSL_CTX_new: { parameters: ["usize"], result: "usize" },
  SSL_CTX_free: { parameters: ["usize"], result: "void" },
  SSL_CTX_ctrl: {
    parameters: [
      "usize",
      "i32", // int cmd
      "i64", // long larg
      "usize", // void *parg
    ],
    result: "i64",
  },
  SSL_CTX_set_ciphersuites: { parameters: ["usize", "buffer"], result: "i32" },
  SSL_CTX_set_verify: { parameters: ["usize", "i32", "usize"], result: "void" },
  SSL_CTX_set_default_verify_paths: { parameters: ["usize"], result: "i32" },
  SSL_CTX_get_cert_store: { parameters: ["usize"], result: "usize" },
  SSL_CTX_use_certificate: { parameters: ["usize", "usize"], result: "i32" },
  SSL_CTX_use_PrivateKey: { parameters: ["usize", "usize"], result: "i32" },

  // Certificates and keys.
  X509_STORE_add_cert: { parameters: ["usize", "usize"], result: "i32" },
  X509_free: { parameters: ["usize"], result: "void" },
  EVP_PKEY_free: { parameters: ["usize"], result: "void" },
  /** BIO *bp, X509 **x, pem_password_cb *cb, void *u */
  PEM_read_bio_X509: { parameters: ["usize", "usize", "usize", "usize"], result: "usize" },
  PEM_read_bio_PrivateKey: { parameters: ["usize", "usize", "usize", "usize"], result: "usize" },
  i2d_X509_bio: { parameters: ["usize", "usize"], result: "i32" },
  X509_VERIFY_PARAM_set1_ip_asc: { parameters: ["usize", "buffer"], result: "i32" },
  X509_verify_cert_error_string: { parameters: ["i64"], result: "usize" },
  OPENSSL_sk_num: { parameters: ["usize"], result: "i32" },
  OPENSSL_sk_value: { parameters: ["usize", "i32"], result: "usize" },

  // Connections: SSL *ssl comes first.
  SSL_new: { parameters: ["usize"], result: "usize" },
  SSL_free: { parameters: ["usize"], result: "void" },
  SSL_set_bio: { parameters: ["usize", "usize", "usize"], result: "void" },
  SSL_set_connect_state: { parameters: ["usize"], result: "void" },
  SSL_ctrl: {
    parameters: [
      "usize",
      "i32", // int cmd
      "i64", // long larg
      "buffer", // void *parg
    ],
    result: "i64",
  },
  SSL_set1_host: { parameters: ["usize", "buffer"], result: "i32" },
  SSL_set_hostflags: { parameters: ["usize", "u32"], result: "void" },
  SSL_get0_param: { parameters: ["usize"], result: "usize" },
  SSL_set_alpn_protos: { parameters: ["usize", "buffer", "u32"], result: "i32" },
  /** const unsigned char **data, unsigned int *len */
  SSL_get0_alpn_selected: { parameters: ["usize", "buffer", "buffer"], result: "void" },
  SSL_do_handshake: { parameters: ["usize"], result: "i32" },
  SSL_in_init: { parameters: ["usize"], result: "i32" },
  SSL_get_error: { parameters: ["usize", "i32"], result: "i32" },
  SSL_get_verify_result: { parameters: ["usize"], result: "i64" },
  SSL_get_peer_cert_chain: { parameters: ["usize"], result: "usize" },
  SSL_get_current_cipher: { parameters: ["usize"], result: "usize" },
  SSL_CIPHER_get_protocol_id: { parameters: ["usize"], result: "u16" },
  SSL_get_session: { parameters: ["usize"], result: "usize" },
  SSL_write: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  SSL_read: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  SSL_key_update: { parameters: ["usize", "i32"], result: "i32" },
  SSL_get_key_update_type: { parameters: ["usize"], result: "i32" },
  SSL_shutdown: { parameters: ["usize"], result: "i32" },

  // Memory that OpenSSL reads from and writes to: BIO *b comes first.
  BIO_s_mem: { parameters: [], result: "usize" },
  BIO_new: { parameters: ["usize"], result: "usize" },
  BIO_free: { parameters: ["usize"], result: "i32" },
  BIO_read: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  BIO_write: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  /** The same, from OpenSSL's own memory. */
  BIO_write_from: { name: "BIO_write", parameters: ["usize", "usize", "i32"], result: "i32" },
  /** A string of C's, from OpenSSL's own memory. */
  BIO_puts: { parameters: ["usize", "usize"], result: "i32" },
  BIO_ctrl_pending: { parameters: ["usize"], result: "usize" },

  // The thread's queue of errors.
  ERR_get_error: { parameters: [], result: "u64" },
  ERR_error_string_n: { parameters: ["u64", "buffer", "usize"], result: "void" },
  ERR_clear_error: { parameters: [], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of OpenSSL that are used. */
export type Libssl = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** The loader's own name for it, where it may be loaded from anywhere. */
const SONAME = "libssl.so.3";
const HOW_TO_FIND = "ldconfig -p | grep libssl shows where it is";

let loaded: { readonly path: string; readonly symbols: Libssl } | undefined;

/**
 * OpenSSL's library, loaded now if it was not yet; a process has one. Never prompts.
 *
 * @param path Where it lies, as it is granted; undefined: one of the known paths.
 * @throws {UnsupportedPlatformError} It is nowhere, or none that can be used.
 * @throws {RangeError} The one at `path` cannot be used.
 * @throws {Deno.errors.NotCapable} No path is granted; the message has the flag to add.
 */
export function libssl(path?: string): Libssl {
  loaded ??= path === undefined ? load() : loadFrom(path);
  return loaded.symbols;
}

function loadFrom(path: string): NonNullable<typeof loaded> {
  if (!isGranted(path)) throw new Deno.errors.NotCapable(needs(`--allow-ffi=${path}`));
  try {
    return { path, symbols: open(path) };
  } catch (error) {
    throw new RangeError(`libssl = ${path} cannot be used: ${messageOf(error)}. ${HOW_TO_FIND}`, {
      cause: error,
    });
  }
}

function load(): NonNullable<typeof loaded> {
  const candidates = libsslCandidates();
  const granted = candidates.map(({ path }) => path).filter(isGranted);
  const everything = isEverythingGranted();
  const failures: string[] = [];
  for (const path of everything ? [SONAME, ...granted] : granted) {
    try {
      return { path, symbols: open(path) };
    } catch (error) {
      failures.push(`${path}: ${messageOf(error)}`);
    }
  }
  const paths = grantOf(candidates);
  if (!everything && failures.length === 0 && paths !== "") {
    throw new Deno.errors.NotCapable(needs(`--allow-ffi=${paths}`));
  }
  const tried = failures.length === 0 ? "" : ` Tried ${failures.join("; ")}.`;
  throw new UnsupportedPlatformError(
    `confirm "reader" needs OpenSSL 3, and none can be loaded here: install it (libssl3 or ` +
      `openssl-libs), or give its path as the option libssl, with --allow-ffi for it. ` +
      `${HOW_TO_FIND}.${tried}`,
  );
}

/** @throws {Error} Not loadable, or another library than OpenSSL 3. */
function open(path: string): Libssl {
  const { arch, target } = Deno.build;
  // A library for another C library brings that along, and two of them crash the process.
  if (makeOf(target) === "glibc" && exists(`/lib/ld-musl-${arch}.so.1`) === true) {
    if (!path.includes("gnu")) {
      throw new Error(
        "this system has musl, and this Deno is built for glibc: a libssl for glibc lies in a " +
          "path that says gnu",
      );
    }
  }
  const library = Deno.dlopen(path, SYMBOLS);
  const major = Number(library.symbols.OpenSSL_version_num() >> 28n);
  if (major === 3) return library.symbols;
  library.close();
  throw new Error(`its version is ${major}, and 3 is needed`);
}

function needs(flag: string): string {
  return `Requires ffi access to OpenSSL's libssl, to ask the server's program what it has ` +
    `read (confirm "reader"): run again with ${flag}.`;
}
