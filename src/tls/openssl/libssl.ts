/**
 * OpenSSL's library, through Deno's FFI, by the rules of `src/kernel/libc.ts`: loaded at first
 * use, only `buffer` and `usize` parameters, every call synchronous.
 *
 * - OpenSSL keeps no buffer that it is given: what it has to keep goes through a BIO, whose
 *   memory is its own.
 * - libcrypto's functions are found through libssl, which is linked with it: one path to
 *   grant, and never two libraries that do not fit.
 */

import { messageOf, UnsupportedPlatformError } from "../../base/errors.ts";
import {
  call,
  exists,
  grantOf,
  isEverythingGranted,
  isGranted,
  libsslCandidates,
  makeOf,
} from "../../kernel/library_paths.ts";

/** `int`, `long` and `size_t` are 32, 64 and 64 bits wide on x86_64 and aarch64. */
const SYMBOLS = {
  OpenSSL_version_num: call([], "u64"),

  // Contexts: SSL_CTX *ctx comes first.
  TLS_client_method: call([], "usize"),
  SSL_CTX_new: call(["usize"], "usize"),
  SSL_CTX_free: call(["usize"], "void"),
  /** int cmd, long larg, void *parg */
  SSL_CTX_ctrl: call(["usize", "i32", "i64", "usize"], "i64"),
  SSL_CTX_set_ciphersuites: call(["usize", "buffer"], "i32"),
  SSL_CTX_set_verify: call(["usize", "i32", "usize"], "void"),
  SSL_CTX_set_default_verify_paths: call(["usize"], "i32"),
  SSL_CTX_get_cert_store: call(["usize"], "usize"),
  SSL_CTX_use_certificate: call(["usize", "usize"], "i32"),
  SSL_CTX_use_PrivateKey: call(["usize", "usize"], "i32"),

  // Certificates and keys.
  X509_STORE_add_cert: call(["usize", "usize"], "i32"),
  X509_free: call(["usize"], "void"),
  EVP_PKEY_free: call(["usize"], "void"),
  /** BIO *bp, X509 **x, pem_password_cb *cb, void *u */
  PEM_read_bio_X509: call(["usize", "usize", "usize", "usize"], "usize"),
  PEM_read_bio_PrivateKey: call(["usize", "usize", "usize", "usize"], "usize"),
  i2d_X509_bio: call(["usize", "usize"], "i32"),
  X509_VERIFY_PARAM_set1_ip_asc: call(["usize", "buffer"], "i32"),
  X509_verify_cert_error_string: call(["i64"], "usize"),
  OPENSSL_sk_num: call(["usize"], "i32"),
  OPENSSL_sk_value: call(["usize", "i32"], "usize"),

  // Connections: SSL *ssl comes first.
  SSL_new: call(["usize"], "usize"),
  SSL_free: call(["usize"], "void"),
  SSL_set_bio: call(["usize", "usize", "usize"], "void"),
  SSL_set_connect_state: call(["usize"], "void"),
  /** int cmd, long larg, void *parg */
  SSL_ctrl: call(["usize", "i32", "i64", "buffer"], "i64"),
  SSL_set1_host: call(["usize", "buffer"], "i32"),
  SSL_set_hostflags: call(["usize", "u32"], "void"),
  SSL_get0_param: call(["usize"], "usize"),
  SSL_set_alpn_protos: call(["usize", "buffer", "u32"], "i32"),
  /** const unsigned char **data, unsigned int *len */
  SSL_get0_alpn_selected: call(["usize", "buffer", "buffer"], "void"),
  SSL_do_handshake: call(["usize"], "i32"),
  SSL_in_init: call(["usize"], "i32"),
  SSL_get_error: call(["usize", "i32"], "i32"),
  SSL_get_verify_result: call(["usize"], "i64"),
  SSL_get_peer_cert_chain: call(["usize"], "usize"),
  SSL_get_current_cipher: call(["usize"], "usize"),
  SSL_CIPHER_get_protocol_id: call(["usize"], "u16"),
  SSL_get_session: call(["usize"], "usize"),
  SSL_write: call(["usize", "buffer", "i32"], "i32"),
  SSL_read: call(["usize", "buffer", "i32"], "i32"),
  SSL_key_update: call(["usize", "i32"], "i32"),
  SSL_get_key_update_type: call(["usize"], "i32"),
  SSL_shutdown: call(["usize"], "i32"),

  // Memory that OpenSSL reads from and writes to: BIO *b comes first.
  BIO_s_mem: call([], "usize"),
  BIO_new: call(["usize"], "usize"),
  BIO_free: call(["usize"], "i32"),
  BIO_read: call(["usize", "buffer", "i32"], "i32"),
  BIO_write: call(["usize", "buffer", "i32"], "i32"),
  /** The same, from OpenSSL's own memory. */
  BIO_write_from: { name: "BIO_write", parameters: ["usize", "usize", "i32"], result: "i32" },
  /** A string of C's, from OpenSSL's own memory. */
  BIO_puts: call(["usize", "usize"], "i32"),
  BIO_ctrl_pending: call(["usize"], "usize"),

  // The thread's queue of errors.
  ERR_get_error: call([], "u64"),
  ERR_error_string_n: call(["u64", "buffer", "usize"], "void"),
  ERR_clear_error: call([], "void"),
} as const satisfies Deno.ForeignLibraryInterface;

export type Libssl = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** The loader's own name for it, where it may be loaded from anywhere. */
const SONAME = "libssl.so.3";
const HOW_TO_FIND = "ldconfig -p | grep libssl shows where it is";

let loaded: Libssl | undefined;

/**
 * Loaded now if it was not yet; a process has one. Never prompts.
 *
 * @param path Where it lies, as it is granted; undefined: one of the known paths.
 * @throws {UnsupportedPlatformError} It is nowhere, or none that can be used.
 * @throws {RangeError} The one at `path` cannot be used.
 * @throws {Deno.errors.NotCapable} No path is granted; the message has the flag to add.
 */
export function libssl(path?: string): Libssl {
  return loaded ??= path === undefined ? load() : loadFrom(path);
}

function loadFrom(path: string): Libssl {
  if (!isGranted(path)) throw new Deno.errors.NotCapable(needs(`--allow-ffi=${path}`));
  try {
    return open(path);
  } catch (error) {
    throw new RangeError(`libssl = ${path} cannot be used: ${messageOf(error)}. ${HOW_TO_FIND}`, {
      cause: error,
    });
  }
}

function load(): Libssl {
  const candidates = libsslCandidates();
  const granted = candidates.map(({ path }) => path).filter(isGranted);
  const everything = isEverythingGranted();
  const failures: string[] = [];
  for (const path of everything ? [SONAME, ...granted] : granted) {
    try {
      return open(path);
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
  const isForeign = makeOf(target) === "glibc" && !path.includes("gnu") &&
    exists(`/lib/ld-musl-${arch}.so.1`) === true;
  if (isForeign) {
    throw new Error(
      "this system has musl, and this Deno is built for glibc: a libssl for glibc lies in a " +
        "path that says gnu",
    );
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
