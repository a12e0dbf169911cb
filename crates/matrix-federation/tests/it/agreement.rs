//! What kept servers from agreeing once, as simulation found it.

use koine_room::{Membership, Preset};
use ruma_common::RoomVersionId;

use crate::houses::{House, Links, until};

#[tokio::test]
async fn who_is_thrown_out_while_away_learns_what_came_before() {
    let links = std::sync::Arc::new(Links::default());
    let one = House::new(&links, "one.example").await;
    let two = House::new(&links, "two.example").await;
    let three = House::new(&links, "three.example").await;
    let (alice, bob, carol) = (one.user("alice"), two.user("bob"), three.user("carol"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    three.join(&carol, &room, &one).await.expect("let in");
    until("all see all", || {
        [&one, &two, &three].iter().all(|house| house.state(&room).len() == one.state(&room).len())
    })
    .await;
    links.set_down("two.example", true);
    three.say(&carol, &room, "two does not hear this").await;
    until("one hears it", || !one.bodies(&room).is_empty()).await;
    one.rooms.kick(&alice, &room, &bob, None).await.expect("thrown out");
    // Who said it cannot be asked any more.
    links.set_down("three.example", true);
    links.set_down("two.example", false);
    until("two knows", || two.room(&room).local_membership(&bob) == Some(Membership::Leave)).await;
}
