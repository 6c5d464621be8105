"""Generated worlds: video whose factors are known, because no real video says what an action was."""
