"""What training did to a policy: answers, likelihoods and rewards on queries that it was not trained on."""
