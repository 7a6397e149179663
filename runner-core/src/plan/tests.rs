use super::RetryPauses;

#[test]
fn stages_23_pauses_grow_up_to_a_limit_with_and_without_the_flag() {
    let seconds = |pauses: RetryPauses| {
        (1..=9).map(|attempt| pauses.after(attempt).as_secs()).collect::<Vec<_>>()
    };
    assert_eq!(seconds(RetryPauses::Exponential), [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(seconds(RetryPauses::Short), [1, 2, 4, 5, 5, 5, 5, 5, 5]);
    assert_eq!(RetryPauses::Short.after(u32::MAX).as_secs(), 5);
}
