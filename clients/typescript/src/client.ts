/** The MyoMetrics API with the types of its OpenAPI schema. */

import createClient, { type Client, type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema.js";

/** A body or a part of one by its name in the schema: `Schema<"Profile">`. */
export type Schema<Name extends keyof components["schemas"]> = components["schemas"][Name];

/** The body of every error. */
export type ApiError = Schema<"Error">;

/** What a sign-in gives; `access` lives 15 minutes, `refresh` 7 days. */
export interface Tokens {
  access: string;
  refresh: string;
}

export type MyoMetricsClient = Client<paths>;

/** Where the tokens of the person are kept: in memory, or wherever the front end likes. */
export interface TokenStore {
  get(): Tokens | null;
  set(tokens: Tokens | null): void;
}

/** Tokens that are forgotten with the page. */
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
 * It sends the access token that `store` holds. When that one is over it takes a new one, once for
 * all requests that wait for it, and asks again; when the session is over it empties `store` and
 * hands over the 401.
 */
export function createMyoMetricsClient(origin: string, store: TokenStore): MyoMetricsClient {
  const client = createClient<paths>({ baseUrl: origin });
  client.use(bearer(client, store));
  return client;
}

/** Whole seconds after which to try again, of a 429; null of any other answer. */
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
  const open = ["login/", "login/mfa/", "register/", "token/refresh/"];
  return open.some((end) => path === `/api/auth/${end}`) || path.includes("password-reset");
}

async function isOver(response: Response): Promise<boolean> {
  if (response.status !== 401) return false;
  const error = (await response.clone().json()) as ApiError;
  return error.code === "token_not_valid";
}

/** Put a new access token into `store`; empty it when the session is over. */
async function renew(client: MyoMetricsClient, store: TokenStore): Promise<void> {
  const tokens = store.get();
  if (tokens === null) return;
  const { data, response } = await client.POST("/api/auth/token/refresh/", {
    body: { refresh: tokens.refresh },
  });
  if (store.get()?.refresh !== tokens.refresh) return; // somebody signed out or in meanwhile
  if (data) store.set({ ...tokens, access: data.access });
  else if (response.status === 401) store.set(null);
}
