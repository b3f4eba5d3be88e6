/** At most this many statuses wait for one slow listener; then the oldest is dropped. */
const MAX_WAITING = 256;

/** Hands each status to every listener. One that does not keep up loses its oldest ones. */
export class StatusHub<Status> {
  readonly #listeners = new Set<Listener<Status>>();
  #closed = false;

  publish(status: Status): void {
    for (const listener of this.#listeners) listener.offer(status);
  }

  /** Ends every iteration, after what is waiting. */
  close(): void {
    this.#closed = true;
    for (const listener of this.#listeners) listener.end();
  }

  /** Listens from now on, to `first` at first; `onTaken` is told what the listener has taken. */
  listen(first: Status, onTaken: (status: Status) => void): AsyncIterableIterator<Status> {
    const listener = new Listener<Status>(() => this.#listeners.delete(listener), onTaken);
    this.#listeners.add(listener);
    listener.offer(first);
    if (this.#closed) listener.end();
    return listener;
  }
}

class Listener<Status> implements AsyncIterableIterator<Status> {
  readonly #onReturn: () => void;
  readonly #onTaken: (status: Status) => void;
  readonly #waiting: Status[] = [];
  readonly #wakes: (() => void)[] = [];
  #ended = false;

  constructor(onReturn: () => void, onTaken: (status: Status) => void) {
    this.#onReturn = onReturn;
    this.#onTaken = onTaken;
  }

  offer(status: Status): void {
    if (this.#waiting.length === MAX_WAITING) this.#waiting.shift();
    this.#waiting.push(status);
    this.#wakeAll();
  }

  end(): void {
    this.#ended = true;
    this.#wakeAll();
  }

  async next(): Promise<IteratorResult<Status>> {
    for (;;) {
      const value = this.#waiting.shift();
      if (value !== undefined) {
        this.#onTaken(value);
        return { done: false, value };
      }
      if (this.#ended) return { done: true, value: undefined };
      await new Promise<void>((resolve) => this.#wakes.push(resolve));
    }
  }

  return(): Promise<IteratorResult<Status>> {
    this.end();
    this.#waiting.length = 0;
    this.#onReturn();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Status> {
    return this;
  }

  #wakeAll(): void {
    for (const wake of this.#wakes.splice(0)) wake();
  }
}
