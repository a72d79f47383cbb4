/** The MyoMetrics API with the types of its OpenAPI schema. */

import createClient, { type Client, type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema.js";

/** A body or a part of one by its name in the schema: `Schema<"Profile">`. */
export type Schema<Name extends keyof components["schemas"]> = components["schemas"][Name];

/** The body of every error. */
export type ApiError = Schema<"Error">;

/** The tokens of a login; `access` lives 15 minutes, `refresh` 7 days. */
export interface Tokens {
  access: string;
  refresh: string;
}

export type MyoMetricsClient = Client<paths>;

/** Storage of the tokens: in memory, or as the front end chooses. */
export interface TokenStore {
  get(): Tokens | null;
  set(tokens: Tokens | null): void;
}

/** Tokens in memory, lost when the page is closed. */
export function tokensInMemory(): TokenStore {
  let kept: Tokens | null = null;
  return {
    get: () => kept,
    set: (tokens) => {
      kept = tokens;
    },
  };
}

/**
 * A client of the API at `origin`, such as `https://clinic.example`.
 *
 * It sends the access token in `store`. If that has expired, it is refreshed once for
 * all waiting requests, which are then repeated; if the session has ended, `store` is emptied and
 * the 401 returned.
 */
export function createMyoMetricsClient(origin: string, store: TokenStore): MyoMetricsClient {
  const client = createClient<paths>({ baseUrl: origin });
  client.use(bearer(client, store));
  return client;
}

/** Whole seconds after which to try again, of a 429; null for other responses. */
export function retryAfter(response: Response): number | null {
  const seconds = response.headers.get("Retry-After");
  return response.status === 429 && seconds !== null ? Number(seconds) : null;
}

function bearer(client: MyoMetricsClient, store: TokenStore): Middleware {
  const spare = new Map<string, Request>();
  let renewal: Promise<void> | null = null;
  return {
    onRequest({ id, request, schemaPath }) {
      const tokens = store.get();
      if (tokens === null || isPublic(schemaPath)) return undefined;
      request.headers.set("Authorization", `Bearer ${tokens.access}`);
      spare.set(id, request.clone());
      return request;
    },
    async onResponse({ id, response }) {
      const again = spare.get(id);
      spare.delete(id);
      if (again === undefined || !(await isOver(response))) return undefined;
      const used = again.headers.get("Authorization");
      if (used === `Bearer ${store.get()?.access}`) {
        renewal ??= renew(client, store).finally(() => (renewal = null));
        await renewal;
      }
      const renewed = `Bearer ${store.get()?.access}`;
      if (store.get() === null || used === renewed) return undefined;
      again.headers.set("Authorization", renewed);
      return fetch(again);
    },
    onError({ id }) {
      spare.delete(id);
    },
  };
}

/** Endpoints that take no access token. */
function isPublic(path: string): boolean {
  const open = ["login/", "login/mfa/", "register/", "token/refresh/", "verify-email/"];
  if (path.includes("password-reset") || path.startsWith("/api/auth/login/passkey/")) return true;
  if (path.startsWith("/api/auth/providers/")) return true; // a 401 is about the provider's token
  return open.some((end) => path === `/api/auth/${end}`);
}

async function isOver(response: Response): Promise<boolean> {
  if (response.status !== 401) return false;
  const error = (await response.clone().json()) as ApiError;
  return error.code === "token_not_valid";
}

/** Put a new access token into `store`; empty it if the session has ended. */
async function renew(client: MyoMetricsClient, store: TokenStore): Promise<void> {
  const tokens = store.get();
  if (tokens === null) return;
  const { data, response } = await client.POST("/api/auth/token/refresh/", {
    body: { refresh: tokens.refresh },
  });
  if (store.get()?.refresh !== tokens.refresh) return; // the tokens changed during the request
  // The server may have replaced the refresh token; the old one works for ten seconds more.
  if (data) store.set({ ...tokens, ...data });
  else if (response.status === 401) store.set(null);
}
