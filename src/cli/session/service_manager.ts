/**
 * The service manager's view of a long-running command: `Type=notify` and
 * `WatchdogSec=` of systemd.service(5). Without a manager, or without the right
 * to read the two variables, nothing happens.
 */

import type { Clock } from "../../base/ports.ts";
import { sendUnixDatagram } from "../../kernel/unix_socket.ts";
import { grantedVariable } from "../arguments/queue_place.ts";
import { printable } from "../terminal/figures.ts";

/** Speaks to the manager until disposed of. */
export class ServiceManager implements Disposable {
  readonly #socket: string | undefined;
  readonly #clock: Clock;
  #cancelPing: () => void = () => {};
  #status = "";
  #isReady = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#socket = grantedVariable("NOTIFY_SOCKET");
  }

  get listens(): boolean {
    return this.#socket !== undefined;
  }

  /**
   * The service is up: the sender is open, and clients can connect; or it waits for its turn,
   * which may be for ever. Idempotent.
   */
  ready(): void {
    if (this.#isReady) return;
    this.#isReady = true;
    this.#notify(`READY=1\nMAINPID=${Deno.pid}`);
    const timeoutMs = Number(grantedVariable("WATCHDOG_USEC")) / 1000;
    // Twice in the time, as sd_watchdog_enabled(3) advises. It comes from the
    // event loop: one that hangs is restarted.
    if (timeoutMs > 0) this.#ping(timeoutMs / 2);
  }

  /** One line for `systemctl status`; what it says already is not said again. */
  status(words: string): void {
    if (words === this.#status) return;
    this.#status = words;
    // A line of its own would be another assignment, see sd_notify(3).
    this.#notify(`STATUS=${printable(words)}`);
  }

  /** The service delivers what it can, and ends. */
  stopping(): void {
    this.#notify("STOPPING=1");
  }

  [Symbol.dispose](): void {
    this.#cancelPing();
  }

  #ping(intervalMs: number): void {
    this.#notify("WATCHDOG=1");
    this.#cancelPing = this.#clock.setTimer(intervalMs, () => this.#ping(intervalMs));
  }

  #notify(message: string): void {
    // A datagram that is lost is not worth a word: the next one comes.
    if (this.#socket !== undefined) sendUnixDatagram(this.#socket, message);
  }
}
