/**
 * A server that wants a client certificate, and judges long after the handshake, as one
 * does that asks a directory first: s_server behind a relay that holds our last flight.
 */

import { CipherRelay } from "./relay.ts";
import { OpensslServer } from "./openssl.ts";
import { fileOf } from "./helpers.ts";

/** Refuses every client that shows no certificate, so much later. */
export class LateServer implements AsyncDisposable {
  readonly #openssl: OpensslServer;
  readonly #relay: CipherRelay;

  private constructor(openssl: OpensslServer, relay: CipherRelay) {
    this.#openssl = openssl;
    this.#relay = relay;
  }

  static async start(judgesAfterMs: number): Promise<LateServer> {
    const openssl = await OpensslServer.start({ certificate: "server" }, [
      ...["-Verify", "1", "-CAfile", fileOf("authority.pem"), "-num_tickets", "0"],
    ]);
    return new LateServer(openssl, new CipherRelay(openssl.port, judgesAfterMs));
  }

  get port(): number {
    return this.#relay.port;
  }

  /** What its program has read. */
  get readBytes(): number {
    return this.#openssl.text.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#relay[Symbol.asyncDispose]();
    await this.#openssl[Symbol.asyncDispose]();
  }
}
