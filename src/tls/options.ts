/** How TLS is spoken. */

/**
 * Options of a `tls://` remote; each has a default. Certificates and keys are text in PEM.
 *
 * @category Delivery
 */
export interface TlsOptions {
  /**
   * Certificates of those whose signature is trusted, one behind the other: they replace
   * those that Deno trusts: Mozilla's list, or what `DENO_TLS_CA_STORE` and `DENO_CERT` say.
   */
  readonly ca?: string;
  /** Our own certificate, its issuers behind it, for a server that wants one. */
  readonly cert?: string;
  /** The key of {@linkcode TlsOptions.cert}. */
  readonly key?: string;
  /** What decrypts {@linkcode TlsOptions.key}. */
  readonly passphrase?: string;
  /**
   * The name that the server's certificate has to have, and that the server is told (SNI):
   * the remote's host unless given.
   */
  readonly serverName?: string;
  /** Application protocols to offer, the best one first; the server has to take one (ALPN). */
  readonly alpn?: readonly string[];
  /**
   * The oldest version of TLS.
   *
   * @default {"TLSv1.2"}
   */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3";
  /**
   * The newest version of TLS.
   *
   * @default {"TLSv1.3"}
   */
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3";
  /**
   * SHA-256 fingerprints of certificates, as hexadecimal digits with or without colons. A
   * server has to show one of these; who issued it, for whom and until when is not looked
   * at. Cannot be combined with {@linkcode TlsOptions.ca}.
   */
  readonly fingerprints?: readonly string[];
  /**
   * How long a handshake may take once TCP is connected.
   *
   * @default {10000}
   */
  readonly handshakeTimeoutMs?: number;
  /**
   * In TLS 1.3 a server judges our certificate when our side of the handshake is over. So
   * its first record after it, a session ticket, is waited for. From a server that sends
   * none within this time, what it acknowledges is held for 5 s at least until it says
   * anything.
   *
   * @default {1000}
   */
  readonly acceptMs?: number;
}

/**
 * {@linkcode TlsOptions}, or what gives them: asked when the sender is opened, and again
 * for each connection, so that certificates can be renewed. It has half of `lookUpTimeoutMs`.
 *
 * @category Delivery
 */
export type TlsSource = TlsOptions | (() => TlsOptions | Promise<TlsOptions>);
