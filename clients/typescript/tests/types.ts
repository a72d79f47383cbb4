/** Mistakes that must not compile, and what an error is known to hold. Never run. */

import { createMyoMetricsClient, tokensInMemory, type ApiError } from "../src/client.js";

const client = createMyoMetricsClient("https://clinic.example", tokensInMemory());

export async function mistakes(): Promise<void> {
  // @ts-expect-error: a password is needed
  await client.POST("/api/auth/login/", { body: { email: "ada@clinic.example" } });
  // @ts-expect-error: there is no such endpoint
  await client.GET("/api/nowhere/");
  // @ts-expect-error: days are a number
  await client.GET("/api/analytics/", { params: { query: { days: "seven" } } });
  // @ts-expect-error: there is no such role
  await client.PUT("/api/users/{user_id}/", { params: { path: { user_id: "1" } }, body: { role: "boss" } });

  const { data, error } = await client.GET("/api/auth/user/");
  // @ts-expect-error: there may be no profile
  data.email;
  if (error) {
    const known: ApiError = error;
    const problems: string[] | undefined = known.field_errors["email"];
    // @ts-expect-error: an error has no message
    known.message;
    return void problems;
  }
  const email: string = data.email;
  // @ts-expect-error: a profile has the API's names
  data.first_name;
  return void email;
}

export async function providers(): Promise<void> {
  const { data } = await client.GET("/api/auth/providers/");
  const slug: string = data?.[0]?.slug ?? "google";
  const params = { path: { slug } };
  await client.POST("/api/auth/providers/{slug}/token/", { params, body: { id_token: "token" } });
  // @ts-expect-error: a code is worth nothing without the secret of its flow
  await client.POST("/api/auth/providers/{slug}/callback/", { params, body: { code: "c", state: "s" } });
}
