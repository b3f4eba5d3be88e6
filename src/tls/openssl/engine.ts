/**
 * OpenSSL as a TLS library without a transport: what comes in and what goes out lies in
 * memory of OpenSSL's, and every call returns at once.
 *
 * OpenSSL has no function that says what a record was. So it is given one at a time: where a
 * record brings no data, ends a message and leaves no new session behind (a ticket does), it
 * was a KeyUpdate, or data of no length at all, which the record's length tells apart. Some pad
 * their records (Java does, by 16 bytes): so a connection's first answer says how long a KeyUpdate
 * is there, and whoever pads each by another length counts as one who does not answer.
 */

import { cString } from "../../kernel/libc.ts";
import {
  type EngineEvents,
  type EngineFactory,
  type EngineOptions,
  type Handshake,
  hasSni,
  type TlsEngine,
} from "../engine.ts";
import { FORMAT_OF_1_3, KEY_UPDATE_BYTES, RecordFollower, RecordType } from "../records.ts";
import { SUITES, withContext } from "./context.ts";
import { connectionFailure, must, newMemory, takeAll, throughMemory } from "./failures.ts";
import { type Libssl, libssl } from "./libssl.ts";

/** What `SSL_get_error` says; include/openssl/ssl.h. */
const Outcome = { WANT_READ: 2, WANT_WRITE: 3, ZERO_RETURN: 6 } as const;
/** `SSL_KEY_UPDATE_…`; include/openssl/ssl.h. */
const KeyUpdate = { NOT_REQUESTED: 0, REQUESTED: 1 } as const;
const SSL_CTRL_SET_TLSEXT_HOSTNAME = 55;
const TLSEXT_NAMETYPE_HOST_NAME = 0n;
/** `X509_CHECK_FLAG_…`: names are those of subjectAltName, and a star is a whole label. */
const NO_PARTIAL_WILDCARDS = 0x4;
const NEVER_CHECK_SUBJECT = 0x20;
const X509_V_OK = 0n;
const READ_BYTES = 16 * 1024;

/**
 * Makes engines of OpenSSL, which is loaded by `libssl`: what is missing is said
 * before anything is connected.
 */
export function opensslEngines(path?: string): EngineFactory {
  return enginesOf(libssl(path));
}

export function enginesOf(lib: Libssl): EngineFactory {
  return (options, events) => new OpensslEngine(lib, options, events);
}

class OpensslEngine implements TlsEngine {
  readonly #lib: Libssl;
  readonly #events: EngineEvents;
  readonly #verified: boolean;
  /** 0 once freed. */
  #ssl: bigint;
  /** Freed with the connection. */
  readonly #in: bigint;
  readonly #out: bigint;
  readonly #records = new RecordFollower((type, payloadBytes, end) => {
    this.#complete.push({ type, payloadBytes, end });
  });
  /** Records that have ended and were not looked at yet. */
  #complete: { readonly type: number; readonly payloadBytes: number; readonly end: number }[] = [];
  /** How long the payload of a KeyUpdate is, once the peer has sent one. */
  #keyUpdateBytes: number | undefined;
  #hasAsked = false;
  readonly #plaintext = new Uint8Array(READ_BYTES);
  readonly #handshake = Promise.withResolvers<Handshake>();
  #agreed = false;
  #peerClosed = false;
  #failed = false;
  readonly #waiting: Uint8Array[] = [];
  #sending = false;

  constructor(lib: Libssl, options: EngineOptions, events: EngineEvents) {
    this.#lib = lib;
    this.#events = events;
    this.#verified = options.verified;
    this.#ssl = withContext(lib, options, (context) => lib.SSL_new(context));
    must(lib, this.#ssl !== 0n, "SSL_new");
    try {
      [this.#in, this.#out] = this.#attachMemory();
      this.#expect(options);
      lib.SSL_set_connect_state(this.#ssl);
    } catch (error) {
      this.destroy();
      throw error;
    }
    // Whoever makes it has to know it before it tells of anything.
    queueMicrotask(() => this.#guarded(() => this.#shakeHands()));
  }

  handshake(): Promise<Handshake> {
    return this.#handshake.promise;
  }

  get authorized(): boolean {
    return this.#verified && this.#agreed && this.#ssl !== 0n &&
      this.#lib.SSL_get_verify_result(this.#ssl) === X509_V_OK;
  }

  get sending(): boolean {
    return this.#sending;
  }

  feed(ciphertext: Uint8Array): void {
    this.#guarded(() => {
      // Nothing of what comes behind a close_notify means anything (RFC 8446, 6.1).
      if (this.#peerClosed) return;
      let offset = this.#records.offset;
      let at = 0;
      this.#records.feed(ciphertext);
      for (const { type, payloadBytes, end } of this.#complete.splice(0)) {
        this.#give(ciphertext.subarray(at, at += end - offset));
        offset = end;
        this.#take(type, payloadBytes);
        if (this.#peerClosed || this.#ssl === 0n) return;
      }
      if (at === ciphertext.length) return;
      this.#give(ciphertext.subarray(at));
      // What is no TLS at all may look like the begin of a record that never ends.
      if (this.#agreed) this.#read();
      else this.#shakeHands();
    });
  }

  write(plaintext: Uint8Array): void {
    this.#guarded(() => {
      const lib = this.#lib;
      lib.ERR_clear_error();
      const taken = lib.SSL_write(this.#ssl, plaintext, plaintext.length);
      if (taken !== plaintext.length) throw connectionFailure(lib, this.#ssl);
      this.#drain();
    });
  }

  askForKeyUpdates(count: number): void {
    this.#guarded(() => {
      this.#hasAsked = true;
      for (let i = 0; i < count; i++) this.#updateKey(KeyUpdate.REQUESTED);
      this.#drain();
    });
  }

  close(): void {
    this.#guarded(() => {
      this.#lib.ERR_clear_error();
      if (this.#lib.SSL_shutdown(this.#ssl) < 0) throw connectionFailure(this.#lib, this.#ssl);
      this.#drain();
    });
  }

  destroy(): void {
    if (this.#ssl === 0n) return;
    // With both memories, where they are attached.
    this.#lib.SSL_free(this.#ssl);
    this.#ssl = 0n;
    this.#waiting.length = 0;
  }

  #attachMemory(): readonly [incoming: bigint, outgoing: bigint] {
    const lib = this.#lib;
    const incoming = newMemory(lib);
    let outgoing: bigint;
    try {
      outgoing = newMemory(lib);
    } catch (error) {
      lib.BIO_free(incoming);
      throw error;
    }
    lib.SSL_set_bio(this.#ssl, incoming, outgoing);
    return [incoming, outgoing];
  }

  /** Whom we want to speak to. */
  #expect({ expectedName, alpn }: EngineOptions): void {
    const lib = this.#lib, ssl = this.#ssl;
    const name = cString(expectedName);
    if (hasSni(expectedName)) {
      lib.SSL_set_hostflags(ssl, NO_PARTIAL_WILDCARDS | NEVER_CHECK_SUBJECT);
      must(lib, lib.SSL_set1_host(ssl, name) === 1, "SSL_set1_host");
      const ctrl = SSL_CTRL_SET_TLSEXT_HOSTNAME;
      const told = lib.SSL_ctrl(ssl, ctrl, TLSEXT_NAMETYPE_HOST_NAME, name);
      must(lib, told === 1n, "SSL_set_tlsext_host_name");
    } else {
      const param = lib.SSL_get0_param(ssl);
      must(
        lib,
        lib.X509_VERIFY_PARAM_set1_ip_asc(param, name) === 1,
        "X509_VERIFY_PARAM_set1_ip_asc",
      );
    }
    if (alpn === undefined) return;
    const offered = new Uint8Array(alpn.flatMap((protocol) => {
      const bytes = new TextEncoder().encode(protocol);
      return [bytes.length, ...bytes];
    }));
    // The one function of OpenSSL that says 0 where it works.
    must(lib, lib.SSL_set_alpn_protos(ssl, offered, offered.length) === 0, "SSL_set_alpn_protos");
  }

  #shakeHands(): void {
    const lib = this.#lib;
    lib.ERR_clear_error();
    const result = lib.SSL_do_handshake(this.#ssl);
    const failure = result === 1 || this.#wants(result)
      ? undefined
      : connectionFailure(lib, this.#ssl);
    // An alert of ours that tells the server why goes out, too.
    this.#drain();
    if (failure !== undefined) throw failure;
    if (result !== 1) return;
    this.#agreed = true;
    const suite = lib.SSL_CIPHER_get_protocol_id(lib.SSL_get_current_cipher(this.#ssl));
    this.#handshake.resolve({
      version: "TLSv1.3",
      cipherSuite: SUITES.get(suite) ?? "unknown",
      alpn: this.#alpn(),
      chain: this.#chain(),
    });
  }

  #alpn(): string | undefined {
    const address = new BigUint64Array(1);
    const length = new Uint32Array(1);
    this.#lib.SSL_get0_alpn_selected(this.#ssl, address, length);
    const [from = 0n] = address, [bytes = 0] = length;
    if (from === 0n || bytes === 0) return undefined;
    return new TextDecoder().decode(
      throughMemory(this.#lib, (bio) => this.#lib.BIO_write_from(bio, from, bytes)),
    );
  }

  #chain(): Uint8Array[] {
    const lib = this.#lib;
    const stack = lib.SSL_get_peer_cert_chain(this.#ssl);
    const count = stack === 0n ? 0 : lib.OPENSSL_sk_num(stack);
    return Array.from({ length: count }, (_, index) =>
      throughMemory(lib, (bio) => {
        const written = lib.i2d_X509_bio(bio, lib.OPENSSL_sk_value(stack, index));
        must(lib, written === 1, "i2d_X509_bio");
      }));
  }

  #give(ciphertext: Uint8Array): void {
    const count = ciphertext.length;
    const taken = this.#lib.BIO_write(this.#in, new Uint8Array(ciphertext), count);
    must(this.#lib, taken === count, "BIO_write");
  }

  /** A whole record has come in. */
  #take(type: number, payloadBytes: number): void {
    if (!this.#agreed) return this.#shakeHands();
    const lib = this.#lib, ssl = this.#ssl;
    const sessionBefore = lib.SSL_get_session(ssl);
    const midMessage = lib.SSL_in_init(ssl) !== 0;
    const broughtData = this.#read();
    if (this.#peerClosed || this.#ssl === 0n) return;
    const isKeyUpdate = !broughtData && !midMessage && type === RecordType.DATA &&
      this.#isAsLong(payloadBytes) && lib.SSL_in_init(ssl) === 0 &&
      lib.SSL_get_session(ssl) === sessionBefore;
    if (isKeyUpdate) {
      this.#keyUpdateBytes = payloadBytes;
      const asking = lib.SSL_get_key_update_type(ssl) === KeyUpdate.NOT_REQUESTED;
      // OpenSSL itself would answer with the next write, which may be far.
      if (asking) this.#updateKey(KeyUpdate.NOT_REQUESTED);
      this.#drain();
      this.#events.keyUpdated(asking);
    } else this.#drain();
  }

  /** Whether a record may be a KeyUpdate of this peer. */
  #isAsLong(payloadBytes: number): boolean {
    if (this.#keyUpdateBytes !== undefined) return payloadBytes === this.#keyUpdateBytes;
    const leastBytes = KEY_UPDATE_BYTES + FORMAT_OF_1_3.overheadBytes;
    return payloadBytes === leastBytes || (this.#hasAsked && payloadBytes > leastBytes);
  }

  /** @returns Whether there was any data. */
  #read(): boolean {
    const lib = this.#lib;
    for (let any = false;; any = true) {
      lib.ERR_clear_error();
      const count = lib.SSL_read(this.#ssl, this.#plaintext, this.#plaintext.length);
      if (count > 0) {
        this.#events.received(this.#plaintext.slice(0, count));
        if (this.#ssl === 0n) return true;
        continue;
      }
      if (this.#wants(count)) return any;
      if (lib.SSL_get_error(this.#ssl, count) !== Outcome.ZERO_RETURN) {
        const failure = connectionFailure(lib, this.#ssl);
        this.#drain();
        throw failure;
      }
      this.#peerClosed = true;
      this.#events.closed();
      return any;
    }
  }

  #updateKey(kind: number): void {
    const lib = this.#lib, ssl = this.#ssl;
    lib.ERR_clear_error();
    const done = lib.SSL_key_update(ssl, kind) === 1 && lib.SSL_do_handshake(ssl) === 1;
    if (!done) throw connectionFailure(lib, ssl);
  }

  /** Whether a call has failed for want of bytes only. */
  #wants(result: number): boolean {
    const outcome = this.#lib.SSL_get_error(this.#ssl, result);
    return outcome === Outcome.WANT_READ || outcome === Outcome.WANT_WRITE;
  }

  #drain(): void {
    const ciphertext = takeAll(this.#lib, this.#out);
    if (ciphertext.length === 0) return;
    this.#waiting.push(ciphertext);
    if (!this.#sending) void this.#send();
  }

  async #send(): Promise<void> {
    this.#sending = true;
    try {
      for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
        await this.#events.send(next);
      }
    } catch {
      // Whoever sends has noticed.
      this.#waiting.length = 0;
    } finally {
      this.#sending = false;
      this.#events.sent();
    }
  }

  /** Nothing is called on a connection that is freed; what fails is told once. */
  #guarded(action: () => void): void {
    if (this.#ssl === 0n || this.#failed) return;
    try {
      action();
    } catch (error) {
      this.#failed = true;
      this.#events.failed(error);
    }
  }
}
