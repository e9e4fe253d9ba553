use super::*;

fn quota() -> Obstacle {
    Obstacle::new(Reason::QuotaExceeded, "no room")
}

fn key() -> ObjectKey {
    ObjectKey::new("ns", "g")
}

fn object(uid: &str, generation: i64) -> ObjectMeta {
    ObjectMeta { uid: Some(uid.to_owned()), generation: Some(generation), ..ObjectMeta::default() }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn pauses_grow_to_a_minute() {
    let (obstacles, start) = (Obstacles::default(), Instant::now());
    let refused = || obstacles.refused(&key(), &object("a", 1), Purpose::Creation, quota(), start).as_secs();
    let waits: Vec<u64> = (0..8).map(|_| refused()).collect();
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_name_that_is_taken_is_not_asked_for_often() {
    let taken = Obstacle::new(Reason::NameTaken, "a stranger's");
    let wait =
        Obstacles::default().refused(&key(), &object("a", 1), Purpose::Creation, taken, Instant::now());
    assert_eq!(wait.as_secs(), 30);
}

#[test]
fn a_refusal_stands_until_its_time_or_an_edit() {
    let (obstacles, start) = (Obstacles::default(), Instant::now());
    obstacles.refused(&key(), &object("a", 1), Purpose::Creation, quota(), start);
    let standing = |object: &ObjectMeta, seconds| {
        obstacles.standing(&key(), object, Purpose::Creation, after(start, seconds))
    };
    let found = standing(&object("a", 1), 1).unwrap();
    assert_eq!((found.obstacle, found.wait), (quota(), Duration::from_secs(1)));
    assert_eq!(standing(&object("a", 1), 2), None, "its time has come");
    assert_eq!(standing(&object("a", 2), 1), None, "the spec was edited");
    let other = ObjectKey::new("ns", "other");
    assert_eq!(obstacles.standing(&other, &object("a", 1), Purpose::Creation, start), None);
    assert_eq!(obstacles.standing(&key(), &object("a", 1), Purpose::Mark, start), None, "of another write");
}

#[test]
fn an_object_made_again_under_the_name_does_not_wait() {
    let (obstacles, start) = (Obstacles::default(), Instant::now());
    for _ in 0..4 {
        obstacles.refused(&key(), &object("old", 1), Purpose::Creation, quota(), start);
    }
    assert_eq!(obstacles.standing(&key(), &object("new", 1), Purpose::Creation, start), None);
    let wait = obstacles.refused(&key(), &object("new", 1), Purpose::Creation, quota(), start);
    assert_eq!(wait.as_secs(), 2, "it begins with the first pause");
}

#[test]
fn an_edit_or_success_starts_afresh() {
    let (obstacles, start) = (Obstacles::default(), Instant::now());
    for _ in 0..2 {
        obstacles.refused(&key(), &object("a", 1), Purpose::Creation, quota(), start);
    }
    let wait = obstacles.refused(&key(), &object("a", 2), Purpose::Creation, quota(), start);
    assert_eq!(wait.as_secs(), 2);
    obstacles.clear(&key());
    assert_eq!(obstacles.standing(&key(), &object("a", 2), Purpose::Creation, start), None);
}

#[test]
fn one_obstacle_does_not_hide_another() {
    let (obstacles, start, group) = (Obstacles::default(), Instant::now(), object("a", 1));
    let policy = Obstacle::new(Reason::AdmissionRefused, "no labels");
    obstacles.refused(&key(), &group, Purpose::Relabel, policy.clone(), start);
    obstacles.refused(&key(), &group, Purpose::Creation, quota(), start);
    let all = [(Purpose::Creation, quota()), (Purpose::Relabel, policy.clone())];
    assert_eq!(obstacles.all(&key()), all, "what matters most comes first");
    assert_eq!(obstacles.last(&key()), Some(quota()));
    obstacles.cleared(&key(), Purpose::Creation);
    assert_eq!(obstacles.all(&key()), [(Purpose::Relabel, policy)]);
}

#[test]
fn each_is_told_once_until_it_was_gone() {
    let (obstacles, group) = (Obstacles::default(), object("a", 1));
    let creation = (Purpose::Creation, quota());
    let mark = (Purpose::Mark, Obstacle::new(Reason::AdmissionRefused, "no marks"));
    let untold = |all: &[(Purpose, Obstacle)]| obstacles.untold(&key(), &group, all);
    let of = |told: Vec<(Purpose, Obstacle)>| -> Vec<Purpose> {
        told.into_iter().map(|(purpose, _)| purpose).collect()
    };
    assert_eq!(of(untold(std::slice::from_ref(&creation))), [Purpose::Creation]);
    assert_eq!(of(untold(&[creation, mark.clone()])), [Purpose::Mark], "only the new one");
    let reworded = (Purpose::Creation, Obstacle::new(Reason::QuotaExceeded, "used 4 of 4"));
    assert_eq!(untold(&[reworded, mark.clone()]), [], "other words, the same reason");
    assert_eq!(untold(&[]), []);
    assert_eq!(of(untold(&[mark])), [Purpose::Mark], "it came back");
}

#[test]
fn several_are_named_within_bounds() {
    let long = Obstacle::new(Reason::AdmissionRefused, "ä".repeat(1000));
    let words = Obstacle::named([&quota(), &long, &quota()]);
    assert!(words.starts_with("no room; ä") && words.len() < 500, "{} bytes", words.len());
    assert_eq!(words.matches("no room").count(), 1, "the same words once");
    assert_eq!(Obstacle::named([&long]), long.message, "one alone has all the room");
}
