//! The examples of `examples/`, run as they stand: what a backend's developer copies works.

use std::process::Output;

use tokio::process::Command;

use crate::world::World;

/// The examples, each with the program that runs it.
const EXAMPLES: [(&str, &str); 2] = [("python3", "backend.py"), ("node", "backend.mjs")];

async fn run(world: &World, (program, file): (&str, &str), key: &str, token: &str) -> Output {
    let path = format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR"));
    let program = Command::new(program)
        .args([&path, "fcm", token])
        .env("ANYPUSH_URL", &world.url)
        .env("ANYPUSH_API_KEY", key)
        // The gateway is on this machine, whatever proxy the environment names.
        .env("no_proxy", "127.0.0.1")
        .output();
    tokio::time::timeout(crate::world::PATIENCE, program).await.expect("it ends").expect(file)
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_register_a_phone_send_and_tell_what_became_of_it() {
    let world = World::start().await;
    for example in EXAMPLES {
        let good = run(&world, example, &world.api_key, &format!("ok-{}", example.0)).await;
        let said = lines(&good);
        assert!(good.status.success(), "{example:?}: {said:?}");
        assert!(said[0].starts_with("accepted msg_"), "{example:?}: {said:?}");
        assert!(said[1].contains("\"accepted\": 1") || said[1].contains("\"accepted\":1"), "{said:?}");
        assert_eq!(said[2].trim(), "accepted", "{example:?}: {said:?}");
        let dead = run(&world, example, &world.api_key, &format!("dead-{}", example.0)).await;
        assert_eq!(lines(&dead)[2], "failed invalid_token", "{example:?}: {:?}", lines(&dead));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_example_with_a_wrong_key_says_what_the_gateway_says() {
    let world = World::start().await;
    for example in EXAMPLES {
        let refused = run(&world, example, "apk_test_wrong", "ok-1").await;
        let said = lines(&refused);
        assert_eq!(refused.status.code(), Some(1), "{example:?}: {said:?}");
        assert!(said[0].starts_with("401 "), "{example:?}: {said:?}");
    }
}
